"""What the referee says about logs whose numbers are known."""

import csv

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("psutil")

from jaxcec.live import events
from jaxcec.live.referee import errors, mean_acts, outcome, same_order, save_intervals
from jaxcec.live.referee_page import save_referee_page

SPEC = events.Service(source=0, load=[1.0, 1.0], demand=[[0.5]] * 2, preds=[[], [0]], data=[1.0, 1.0], release=5.0)


def run(microservice, *, decided, predicted, measured, links):
    """The events of one run: (flow start, flow end, start, finish) as predicted and as measured, s."""
    of = {"service": "s", "microservice": microservice, "attempt": 0}
    names = ("flow_start", "flow_end", "start", "finish")
    decision = dict(zip(names, (100.0 + time for time in predicted), strict=True))
    kinds = (events.FlowStarted, events.FlowEnded, events.ExecutionStarted, events.ExecutionEnded)
    return [
        events.Decided(
            time=100.0 + decided, **of, **decision, data_ready=decision["flow_end"], host=1, links=links, policy="eft"
        ),
        *(kind(time=100.0 + time, **of) for kind, time in zip(kinds, measured, strict=True)),
    ]


@pytest.fixture
def played():
    """A service, released at 5, whose second microservice begins with a flow that takes a tenth longer."""
    happened = [
        events.Submitted(time=100.0, service="s", spec=SPEC),
        *run(0, decided=5.0, predicted=(5.0, 5.0, 5.0, 15.0), measured=(5.0, 5.0, 5.0, 16.0), links={}),
        *run(1, decided=16.0, predicted=(16.0, 26.0, 26.0, 36.0), measured=(16.0, 27.0, 27.0, 37.0), links={0: 0.5}),
    ]
    return outcome("eft", 0, happened, simulated=30.0)


def test_durations_and_completion_times_are_compared(played):
    assert played.measured == pytest.approx(37.0 - 5.0) and played.failed == 0
    assert errors(played.intervals, "flow") == pytest.approx((1, 0.1, 0.1, 0.1))
    assert errors(played.intervals, "execution") == pytest.approx((2, 0.05, 0.095, 0.05))
    assert errors(played.intervals, "finish") == pytest.approx((2, 0.075, 0.0975, 0.075))


def test_finishes_are_predicted_with_the_lateness_that_was_learned():
    first = run(0, decided=5.0, predicted=(5.0, 5.0, 5.0, 15.0), measured=(5.0, 5.0, 5.0, 16.0), links={})
    happened = [events.Submitted(time=100.0, service="s", spec=SPEC), first[0].model_copy(update={"later": 0.5})]
    found = outcome("eft", 0, [*happened, *first[1:]], simulated=10.0).intervals
    assert {each.what: each.predicted_end for each in found} == pytest.approx({"execution": 15.0, "finish": 15.5})


def test_the_order_of_policies_is_compared(played):
    slow = played._replace(policy="slow", simulated=40.0, measured=41.0)
    assert same_order([played, slow]) and mean_acts([played, slow])["slow"] == (40.0, 41.0)
    assert not same_order([played, slow._replace(measured=20.0)])


def test_files_have_every_interval(played, tmp_path):
    save_intervals([played], tmp_path / "intervals.csv")
    rows = list(csv.DictReader((tmp_path / "intervals.csv").read_text().splitlines()))
    assert [row["what"] for row in rows] == ["execution", "finish", "flow", "execution", "finish"]
    assert float(rows[2]["end"]) - float(rows[2]["start"]) == pytest.approx(11.0)


def test_the_page_stands_alone(played, tmp_path):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    save_referee_page([played, played._replace(policy="slow")], tmp_path / "page.html", title="A title")
    page = (tmp_path / "page.html").read_text()
    assert "A title" in page and "32.0 s measured" in page and "<script src=" not in page
