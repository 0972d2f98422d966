"""Messages between the controller and the workers: JSON in frames that begin with their length, over TCP.

The controller connects to a worker and says `Hello` with the token that both know; the worker answers `Welcome`. From
then on the controller sends commands and the worker reports, both at any time. Commands may be repeated: the identifier
of a run names what is to be done once, and a worker that is told again sends the reports of that run again. A report
that arrives twice therefore says nothing new.

Clocks need not agree. A command gives delays in s from the moment at which the worker first received it. A report gives
instants of the worker's own monotonic clock, which `WorkerClock` converts to the receiver's.

Workers pull inputs from one another over the same port: the first frame of such a connection is `Fetch`, the answer is
`Sending`, followed by the bytes themselves, or `Refused`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

T = TypeVar("T")
MOST_BYTES = 1 << 20  # of a frame
MOST_NAMED = 5000  # runs in a welcome
_HEADER = 4  # bytes that hold a frame's length, most significant first

# A file and a control group are named after it.
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Seconds = Annotated[float, Field(ge=0.0, le=1e9)]
Instant = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]  # s, the worker's monotonic clock
Size = Annotated[int, Field(ge=0, le=1 << 50)]  # bytes
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1e12)]  # bytes/s
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_\[\]-]{1,255}:[0-9]{1,5}$")]  # host:port of a worker


class ProtocolError(ValueError):
    """A frame that is too long, is not JSON, or is not a message."""


class Message(BaseModel):
    """A frame. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# From the controller.


class Hello(Message):
    """The first frame of a controller."""

    kind: Literal["hello"] = "hello"
    token: str = Field(max_length=1000)


class Input(Message):
    """A part of an input that lies at a worker; the parts of one run form a coflow."""

    peer: Address  # the worker that has it, which may be the one that is told
    id: Id | None = None  # the run whose output it is; None for data that no run made, of which only the size matters
    size: Size
    rate: Rate  # at which the peer sends it


class Burn(Message):
    """Work that only uses the processor."""

    kind: Literal["burn"] = "burn"
    cpu_seconds: Seconds  # of one core


class Command(Message):
    """Work that is a program. Its folder has a file for each input, named by the input's `id`; its standard output is
    the output of the run."""

    kind: Literal["command"] = "command"
    argv: list[Annotated[str, Field(max_length=10_000)]] = Field(min_length=1, max_length=1000)

    @field_validator("argv")
    @classmethod
    def _no_nul(cls, argv: list[str], _: ValidationInfo) -> list[str]:
        if any("\0" in word for word in argv):
            raise ValueError("must have no NUL characters")
        return argv


class Run(Message):
    """Pull the inputs, then work, each no sooner than decided, and not before there is room for it at the node."""

    kind: Literal["run"] = "run"
    id: Id
    inputs: list[Input] = Field(default=[], max_length=1000)
    not_before: Seconds = 0.0  # s from the receipt until the inputs may be pulled
    hold: Seconds = 0.0  # s from the receipt until the work may start
    work: Annotated[Burn | Command, Field(discriminator="kind")]
    share: float = Field(default=1.0, gt=0.0, le=1.0)  # of the node's processor, at most, while it works
    usage: list[Share] = Field(default=[], max_length=100)  # of each of the node's resources, reserved while it works


class Cancel(Message):
    """Stop a run, if it has not ended; it reports `Cancelled`. A run that was never told is then never started."""

    kind: Literal["cancel"] = "cancel"
    id: Id


class Status(Message):
    """Send the reports of these runs again; `Unknown` of those that the worker was never told of."""

    kind: Literal["status"] = "status"
    ids: list[Id] = Field(max_length=10_000)


class Forget(Message):
    """Delete the outputs and reports of these runs, which nobody will ask for again. Those that have not ended stay."""

    kind: Literal["forget"] = "forget"
    ids: list[Id] = Field(max_length=10_000)


# From a worker to the controller.


class Welcome(Message):
    """The answer to `Hello`."""

    kind: Literal["welcome"] = "welcome"
    node: str
    cores: float  # that the node may use
    clock: Instant  # when it was sent
    runs: list[Id] = Field(default=[], max_length=MOST_NAMED)  # of which it has reports, or the first of them


class FlowStarted(Message):
    """The first input of a run was asked for. Runs without inputs report no flow."""

    kind: Literal["flow_started"] = "flow_started"
    id: Id
    at: Instant


class Part(Message):
    """One input as it was pulled."""

    peer: Address
    size: Size  # bytes that arrived
    started: Instant
    ended: Instant


class FlowEnded(Message):
    """The last byte of the last input arrived."""

    kind: Literal["flow_ended"] = "flow_ended"
    id: Id
    at: Instant
    parts: list[Part]  # in the order of `Run.inputs`


class ExecutionStarted(Message):
    """The work began."""

    kind: Literal["execution_started"] = "execution_started"
    id: Id
    at: Instant


class ExecutionEnded(Message):
    """The work is done, and its output can be fetched."""

    kind: Literal["execution_ended"] = "execution_ended"
    id: Id
    at: Instant
    cpu_seconds: Seconds | None  # that it used; None where it cannot be told


class Failed(Message):
    """The run has ended without success. Telling the same identifier again does not repeat it: use another one."""

    kind: Literal["failed"] = "failed"
    id: Id
    at: Instant
    reason: str


class Cancelled(Message):
    """The run was stopped, or will never start."""

    kind: Literal["cancelled"] = "cancelled"
    id: Id
    at: Instant


class Unknown(Message):
    """The worker has no record of this run."""

    kind: Literal["unknown"] = "unknown"
    id: Id


class Load(Message):
    """What was measured on the node since the last such report; sent at regular intervals."""

    kind: Literal["load"] = "load"
    clock: Instant  # the end of the interval, and when it was sent
    seconds: Seconds  # its length
    cpu: float = Field(ge=0.0)  # share of the node's processor that others than the runs used
    links: dict[
        str, float
    ]  # bytes/s of data on each of the node's links, of the runs and of others, by the link's name


# From a worker to a worker.


class Fetch(Message):
    """Ask for the output of a run, from a byte onwards."""

    kind: Literal["fetch"] = "fetch"
    token: str = Field(max_length=1000)
    id: Id | None
    size: Size  # of the whole; the output of a command is sent as it is
    offset: Size = 0
    rate: Rate


class Sending(Message):
    """As many bytes follow."""

    kind: Literal["sending"] = "sending"
    size: Size


class Refused(Message):
    """The connection is closed after this. `missing` says that the worker does not have the output that was asked for:
    asking again is in vain."""

    kind: Literal["refused"] = "refused"
    reason: str
    missing: bool = False


Order = Run | Cancel | Status | Forget
RunReport = FlowStarted | FlowEnded | ExecutionStarted | ExecutionEnded | Failed | Cancelled
Report = Welcome | RunReport | Unknown | Load | Refused

ORDERS: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])
REPORTS: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])
OPENINGS: TypeAdapter[Hello | Fetch] = TypeAdapter(Annotated[Hello | Fetch, Field(discriminator="kind")])
ANSWERS: TypeAdapter[Sending | Refused] = TypeAdapter(Annotated[Sending | Refused, Field(discriminator="kind")])


def frame(message: Message) -> bytes:
    """A message as it is sent.

    Raises:
        ProtocolError: the message is longer than MOST_BYTES.
    """
    body = message.model_dump_json().encode()
    if len(body) > MOST_BYTES:
        raise ProtocolError(f"frame: got {len(body)} bytes; must be at most {MOST_BYTES}")
    return len(body).to_bytes(_HEADER, "big") + body


async def receive(reader: asyncio.StreamReader, kinds: TypeAdapter[T]) -> T:
    """The next message, which must be of one of these kinds, such as REPORTS.

    Raises:
        ProtocolError: it is not.
        asyncio.IncompleteReadError: the connection was closed; `partial` is empty if that was between two frames.
    """
    size = int.from_bytes(await reader.readexactly(_HEADER), "big")
    if size > MOST_BYTES:
        raise ProtocolError(f"frame: got {size} bytes; must be at most {MOST_BYTES}")
    try:
        return kinds.validate_json(await reader.readexactly(size))
    except ValidationError as error:
        raise ProtocolError(str(error)) from None


class WorkerClock:
    """A worker's monotonic clock read from here.

    A message is received later than it was sent, so the least difference between the two clocks that was seen is the
    closest to the true one. What is delayed on its way does not disturb it.
    """

    def __init__(self) -> None:
        self._ahead = float("inf")

    def saw(self, sent: float, received: float) -> None:
        """Learn from a message: its `clock`, and the local time at which it arrived, s."""
        self._ahead = min(self._ahead, received - sent)

    def local(self, at: float, now: float) -> float:
        """The local time of an instant of the worker, s; not after now, whatever the worker says."""
        return min(at + self._ahead, now)
