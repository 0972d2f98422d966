"""Metrics of a site for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jaxcec.live.ledger import Ledger

_COUNTERS = {
    "submitted": ("services_submitted", "Services that were accepted."),
    "completed": ("services_completed", "Services of which everything has finished."),
    "given_up": ("services_given_up", "Services of which a microservice failed too often."),
    "completion": ("completion_seconds", "Completion times of completed services, summed."),
    "decisions": ("decisions", "Decisions."),
    "late": ("decisions_late", "Decisions of the fallback, because the policy was late."),
    "postponed": ("decisions_postponed", "Decisions that were put off."),
    "failed": ("attempts_failed", "Attempts to run a microservice that failed."),
}


class SiteCollector(Collector):
    """Reads the ledger whenever it is asked."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger, self._clock = ledger, clock

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        ledger = self._ledger
        for field, (name, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"jaxcec_{name}", text, value=float(getattr(ledger.counters, field)))
        for name, text, value in (
            ("services_in_flight", "Services that have a slot.", len(ledger.slot_of)),
            ("services_waiting", "Services that wait for a slot.", len(ledger.waiting)),
            ("runs", "Microservices that are decided and have not finished.", len(ledger.bookings)),
            ("workers_up", "Workers that are connected.", int(ledger.up.sum())),
        ):
            yield GaugeMetricFamily(f"jaxcec_{name}", text, value=float(value))
        yield from self._loads()

    def _loads(self) -> Iterable[Metric]:
        ledger, site = self._ledger, self._ledger.site
        shares = ledger.load.until(self._clock())[:, -1]
        links = GaugeMetricFamily("jaxcec_link_load", "Share of a link that other tenants use.", labels=["link"])
        for link in range(len(site.bandwidth)):
            links.add_metric([str(link)], float(shares[link]))
        nodes = GaugeMetricFamily("jaxcec_node_load", "Share of a node that other tenants use.", labels=["node"])
        for node in range(site.config.num_nodes):
            nodes.add_metric([str(node)], float(shares[site.config.max_links + node]))
        yield from (links, nodes)


def metrics_text(ledger: Ledger, clock: Callable[[], float]) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(SiteCollector(ledger, clock))
    return generate_latest(registry)
