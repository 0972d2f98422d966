"""Other tenants' load on links: what workers measure less what the site's own flows send."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from jaxcec.live import protocol
from jaxcec.live.events import LoadMeasured
from jaxcec.live.ledger import Booking
from jaxcec.live.site import Site

_MOST = 1000  # flows that are remembered after they have ended
_EVENTS = 4  # in a frame, at most: more would only fill the log
_BITS = 8e-6  # Mbit in a byte


class Tenants:
    """Remembers the flows that have just ended.

    Args:
        site: the network.
        link_names: index of each link resource, by the name by which workers report it; others are left out.
    """

    def __init__(self, site: Site, link_names: Mapping[str, int]) -> None:
        self._site, self._names = site, link_names
        self._reports: dict[int, list[tuple[float, float, dict[int, float]]]] = {}  # begin, cpu, links, by host
        self._ended: deque[tuple[float, float, dict[int, float]]] = deque(maxlen=_MOST)

    def ended(self, booking: Booking, time: float) -> None:
        """A flow ended at a time in s. Its data took the time from its start to then, whatever was decided."""
        decided, start = booking.decided, booking.flow_started
        if start is not None and time > start:
            stretch = (decided.flow_end - decided.flow_start) / (time - start)
            self._ended.append((start, time, {e: share * stretch for e, share in decided.links.items()}))

    def measured(
        self, report: protocol.Load, host: int, now: float, bookings: Collection[Booking]
    ) -> LoadMeasured | None:
        """The mean of a worker's reports once they cover a quarter of a frame, at the arrival of the last one, in s."""
        begin = now - report.seconds
        running = [(b.flow_started, now, b.decided.links) for b in bookings if b.flow_started and not b.flow_ended]
        links = {}
        for name, rate in report.links.items():
            if name in self._names:
                link = self._names[name]
                own = _mean(link, begin, now, [*self._ended, *running])
                links[link] = max(rate * _BITS / float(self._site.bandwidth[link]) - own, 0.0)
        reports = self._reports.setdefault(host, [])
        reports.append((begin, report.cpu, links))
        if now - reports[0][0] < self._site.frame / _EVENTS:
            return None
        del self._reports[host]
        means = {link: sum(seen.get(link, 0.0) for *_, seen in reports) / len(reports) for link in links}
        return LoadMeasured(time=now, host=host, cpu=sum(cpu for _, cpu, _ in reports) / len(reports), links=means)


def _mean(link: int, begin: float, end: float, flows: Iterable[tuple[float, float, dict[int, float]]]) -> float:
    """Mean share of a link that flows took between two times in s."""
    total = 0.0
    for start, stop, shares in flows:
        total += shares.get(link, 0.0) * max(min(stop, end) - max(start, begin), 0.0)
    return total / max(end - begin, 1e-9)
