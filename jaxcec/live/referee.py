"""What was predicted against what the lab measures: every flow, every execution, every finish, and ACT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from jaxcec.files import csv_text, write_aside
from jaxcec.live import events

What = Literal["flow", "execution", "finish"]
WHAT: tuple[What, ...] = ("flow", "execution", "finish")
LEAST = 1.0  # s, the shortest prediction of which an error is counted: of less, the clock and the messages are the most
T = TypeVar("T", bound=events.Event)


class Interval(NamedTuple):
    """Something predicted by the decision that caused it, and measured. Times are in s since the episode began."""

    policy: str
    episode: int
    service: str
    microservice: int
    host: int
    what: What  # the input's flow, the execution, or everything from the decision to the finish
    predicted_start: float
    predicted_end: float
    start: float
    end: float

    @property
    def error(self) -> float:
        """How much longer it took than predicted, as a share; less if negative."""
        predicted = self.predicted_end - self.predicted_start
        return (self.end - self.start - predicted) / predicted


class Outcome(NamedTuple):
    """One episode under one policy, in the simulator and in the lab."""

    policy: str
    episode: int
    simulated: float  # ACT, s
    measured: float  # ACT, s
    failed: int  # attempts that failed in the lab
    intervals: list[Interval]


class Errors(NamedTuple):
    """Of the intervals of one kind."""

    number: int
    median: float  # of the errors' sizes
    high: float  # their 95th percentile
    bias: float  # median of the errors


def outcome(policy: str, episode: int, happened: Sequence[events.Event], *, simulated: float) -> Outcome:
    """What a log says about an episode, whose ACT in the simulator was `simulated` in s."""
    released = {each.service: each.time + each.spec.release for each in _of(happened, events.Submitted)}
    begin = min(each.time for each in _of(happened, events.Submitted))
    decided = {each.run: each for each in _of(happened, events.Decided)}
    flow_start, flow_end = (_times(happened, kind, begin) for kind in (events.FlowStarted, events.FlowEnded))
    start, end = (_times(happened, kind, begin) for kind in (events.ExecutionStarted, events.ExecutionEnded))
    intervals = []
    finished = dict.fromkeys(released, 0.0)
    for run in end:
        each = decided[run]
        of = policy, episode, each.service, each.microservice, each.host
        predicted = {
            "flow": (each.flow_start, each.flow_end),
            "execution": (each.start, each.finish),
            "finish": (each.time, each.expected),
        }
        measured = {"execution": (start[run], end[run]), "finish": (each.time - begin, end[run])}
        if run in flow_end and each.links:
            measured["flow"] = flow_start[run], flow_end[run]
        for what in filter(measured.__contains__, WHAT):
            early, late = (time - begin for time in predicted[what])
            intervals.append(Interval(*of, what, early, late, *measured[what]))
        finished[each.service] = max(finished[each.service], end[run])
    act = float(np.mean([finished[name] + begin - release for name, release in released.items()]))
    failed = len(_of(happened, events.Failed))
    return Outcome(policy, episode, simulated=simulated, measured=act, failed=failed, intervals=intervals)


def _of(happened: Sequence[events.Event], kind: type[T]) -> list[T]:
    return [event for event in happened if isinstance(event, kind)]


def _times(happened: Sequence[events.Event], kind: type[events.Report], begin: float) -> dict[str, float]:
    """When each run had an event of a kind, s since the beginning."""
    return {event.run: event.time - begin for event in _of(happened, kind)}


def errors(intervals: Sequence[Interval], what: What) -> Errors:
    """The errors of the intervals of a kind that were predicted to take at least LEAST; NaN if there are none."""
    found = [
        each.error for each in intervals if each.what == what and each.predicted_end - each.predicted_start >= LEAST
    ]
    if not found:
        return Errors(0, *[float("nan")] * 3)
    sizes = np.abs(found)
    return Errors(len(found), float(np.median(sizes)), float(np.percentile(sizes, 95)), float(np.median(found)))


def same_order(outcomes: Sequence[Outcome]) -> bool:
    """Whether the policies' mean ACT have the same order in the simulator and in the lab."""
    acts = mean_acts(outcomes)
    return sorted(acts, key=lambda name: acts[name][0]) == sorted(acts, key=lambda name: acts[name][1])


def mean_acts(outcomes: Sequence[Outcome]) -> dict[str, tuple[float, float]]:
    """ACT of each policy in the simulator and in the lab, mean over episodes, s."""
    found = {}
    for policy in dict.fromkeys(each.policy for each in outcomes):
        acts = [(each.simulated, each.measured) for each in outcomes if each.policy == policy]
        simulated, measured = np.mean(acts, axis=0)
        found[policy] = float(simulated), float(measured)
    return found


def save_intervals(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write every interval as a row of a CSV file."""
    write_aside(path, csv_text(Interval._fields, (each for outcome in outcomes for each in outcome.intervals)))
