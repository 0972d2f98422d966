"""Other tenants' load on links: all traffic less the site's own."""

import pytest

pytest.importorskip("pydantic")

from jaxcec.live import events, protocol
from jaxcec.live.ledger import Ledger
from jaxcec.live.site import Site
from jaxcec.live.tenants import Tenants

SITE = Site(links=[(0, 1, 8.0)], node_speed=[1.0] * 2, device_speed=[0.0] * 2, capacity=[[1.0]] * 2, frame=8.0)
RATE = 1e6  # bytes/s of the whole link


def booking(start, end, *, started=None):
    """A decision whose flow takes half of the link."""
    ledger, spec = Ledger(SITE), events.Service(source=0, load=[1.0], data=[1.0], demand=[[1.0]], preds=[[]])
    ledger.apply(events.Submitted(time=start, service="a", spec=spec))
    of = {"service": "a", "microservice": 0, "attempt": 0}
    times = {"flow_start": start, "flow_end": end, "data_ready": end, "start": end, "finish": end + 1.0}
    ledger.apply(events.Decided(time=start, host=1, links={0: 0.5}, policy="some", **times, **of))
    if started is not None:
        ledger.apply(events.FlowStarted(time=started, **of))
    return ledger.bookings["a.0.0"]


def measured(tenants, bookings, *, share, now):
    report = protocol.Load(clock=now, seconds=2.0, cpu=0.25, links={"between": share * RATE, "unknown": RATE})
    return tenants.measured(report, 1, now, bookings)


def test_what_no_flow_sends_is_of_others():
    event = measured(Tenants(SITE, {"between": 0}), [], share=0.4, now=10.0)
    assert (event.host, event.cpu, event.links) == (1, 0.25, {0: pytest.approx(0.4)})


def test_reports_are_gathered_for_a_quarter_of_a_frame():
    tenants = Tenants(SITE.model_copy(update={"frame": 16.0}), {"between": 0})
    assert measured(tenants, [], share=0.2, now=10.0) is None
    assert measured(tenants, [], share=0.4, now=12.0).links == {0: pytest.approx(0.3)}
    assert measured(tenants, [], share=0.4, now=14.0) is None


def test_a_flow_that_has_begun_counts_for_the_time_that_it_took():
    """It began in the middle of the interval, so it had a quarter of the link on average."""
    running = booking(9.0, 20.0, started=9.0)
    assert measured(Tenants(SITE, {"between": 0}), [running], share=0.4, now=10.0).links[0] == pytest.approx(0.15)
    waiting = booking(9.0, 20.0)
    assert measured(Tenants(SITE, {"between": 0}), [waiting], share=0.4, now=10.0).links[0] == pytest.approx(0.4)


def test_a_flow_that_has_ended_counts_at_the_rate_that_it_had():
    """Decided for 2 s at half of the link, it took 1 s: the whole link for half of the interval."""
    tenants = Tenants(SITE, {"between": 0})
    tenants.ended(booking(9.0, 11.0, started=9.0), 10.0)
    assert measured(tenants, [], share=0.6, now=10.0).links[0] == pytest.approx(0.1)
    assert measured(tenants, [], share=0.6, now=13.0).links[0] == pytest.approx(0.6)
    assert measured(tenants, [], share=0.4, now=10.0).links[0] == 0.0
