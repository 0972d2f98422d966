"""What happens in a running system, as records: the state of the twin is a fold over them (`ledger.Ledger`).

Times are in s of one clock, the controller's, which counts from 1970 and never goes back. The identifier of an event
follows from what it says, so an event that is recorded again is recognised, and changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

ServiceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")]  # no dots: see `run_id`
_Number = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_MOST = 10_000  # of anything in one service


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Service(_Record):
    """A service as `build_instance` takes it; its release is in s from when it is submitted."""

    source: int = Field(ge=0)  # edge node
    load: list[_Number] = Field(min_length=1, max_length=_MOST)  # (n,) Mcycles
    demand: list[list[_Number]] = Field(max_length=_MOST)  # (n, K)
    release: float = Field(default=0.0, ge=0.0, le=1e9)
    preds: list[list[int]] | None = Field(default=None, max_length=_MOST)  # with `data`, or `inputs` with `external`
    data: list[_Number] | None = Field(default=None, max_length=_MOST)  # (n,) Mbit
    inputs: list[dict[int, _Number]] | None = Field(default=None, max_length=_MOST)  # Mbit from each predecessor
    external: list[_Number] | None = Field(default=None, max_length=_MOST)  # (n,) Mbit at the source
    # What each microservice runs, as the words of a command; by default it only uses the processor, as its load says.
    commands: list[list[str]] | None = Field(default=None, max_length=_MOST)
    # For how many s any of its microservices may run; one that runs longer is stopped and has failed.
    longest: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Service:
        if (self.preds is None) == (self.inputs is None):
            raise ValueError("preds, inputs: got both or neither; must be one of them")
        if self.commands is not None and len(self.commands) != len(self.load):
            raise ValueError(f"commands: got {len(self.commands)}; must be one for each of {len(self.load)} loads")
        if self.commands is not None and not all(self.commands):
            raise ValueError("commands: got one without words; must name a program")
        return self

    def fields(self) -> dict[str, Any]:
        """The service as a mapping for `build_instance`."""
        return self.model_dump(exclude={"commands", "longest"}, exclude_none=True)


class _Event(_Record):
    time: float = Field(ge=0.0, allow_inf_nan=False)  # s

    @property
    def id(self) -> str:
        """What two records of one event have in common, and other events do not."""
        return f"{type(self).__name__}:{self.about}"

    @property
    def about(self) -> str:
        """What the event is about."""
        raise NotImplementedError


class _OfService(_Event):
    service: ServiceId

    @property
    def about(self) -> str:
        """The service."""
        return self.service


class _OfRun(_OfService):
    """About one attempt to run a microservice."""

    microservice: int = Field(ge=0)
    attempt: int = Field(ge=0)

    @property
    def run(self) -> str:
        """The identifier of the attempt, which its worker knows it by."""
        return run_id(self.service, self.microservice, self.attempt)

    @property
    def about(self) -> str:
        """The attempt."""
        return self.run


class Submitted(_OfService):
    """A service was accepted."""

    kind: Literal["submitted"] = "submitted"
    spec: Service


class Decided(_OfRun):
    """A microservice was placed; the times are those that the mechanism expects, and for which it was booked."""

    kind: Literal["decided"] = "decided"
    host: int = Field(ge=0)
    flow_start: float
    flow_end: float
    data_ready: float
    start: float
    finish: float
    links: dict[int, float]  # share of each link resource that the flow holds
    policy: str
    late: bool = False  # the planner was late, and its fallback decided
    later: float = 0.0  # s after `finish`, the finish that is expected with the lateness that was learned

    @property
    def expected(self) -> float:
        """s, the finish that is expected."""
        return self.finish + self.later


class Postponed(_OfRun):
    """The decision was put off."""

    kind: Literal["postponed"] = "postponed"
    until: float

    @property
    def about(self) -> str:
        """The attempt and the time of the decision: it may be put off again."""
        return f"{self.run}:{self.time!r}"


class FlowStarted(_OfRun):
    """The input began to move."""

    kind: Literal["flow_started"] = "flow_started"


class FlowEnded(_OfRun):
    """The whole input has arrived."""

    kind: Literal["flow_ended"] = "flow_ended"


class ExecutionStarted(_OfRun):
    """The microservice began to run."""

    kind: Literal["execution_started"] = "execution_started"


class ExecutionEnded(_OfRun):
    """The microservice has finished."""

    kind: Literal["execution_ended"] = "execution_ended"
    cpu_seconds: float | None = None  # of one core, that it used


class Failed(_OfRun):
    """An attempt failed. The microservice is decided again, unless the service is given up."""

    kind: Literal["failed"] = "failed"
    reason: str
    gives_up: bool = False


class _OfHost(_Event):
    host: int = Field(ge=0)

    @property
    def about(self) -> str:
        """The host and the time."""
        return f"{self.host}:{self.time!r}"


class WorkerUp(_OfHost):
    """The host's worker can be reached."""

    kind: Literal["worker_up"] = "worker_up"


class WorkerDown(_OfHost):
    """The host's worker cannot be reached."""

    kind: Literal["worker_down"] = "worker_down"


class LoadMeasured(_OfHost):
    """What other tenants use, as the host's worker measured it."""

    kind: Literal["load_measured"] = "load_measured"
    cpu: _Number  # share of the host
    links: dict[int, _Number] = {}  # share of each link resource


class Carried(_Event):
    """What was removed from the log adds up to: see `shorten`."""

    kind: Literal["carried"] = "carried"
    counters: dict[str, int | float]  # `ledger.Counters` by name
    sums: list[_Number]  # of `Ledger.sums`

    @property
    def about(self) -> str:
        """The time up to which it was removed."""
        return repr(self.time)


Report = FlowStarted | FlowEnded | ExecutionStarted | ExecutionEnded | Failed
Event = Submitted | Decided | Postponed | Report | WorkerUp | WorkerDown | LoadMeasured | Carried
EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def run_id(service: str, microservice: int, attempt: int) -> str:
    """The identifier of one attempt to run a microservice."""
    return f"{service}.{microservice}.{attempt}"


def service_of(run: str) -> str:
    """The service of an attempt to run a microservice."""
    return run.partition(".")[0]
