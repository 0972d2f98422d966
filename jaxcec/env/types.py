"""Every pytree of the simulator, each field with its shape and unit.

Letters of the shapes (sizes live in `EnvConfig`):

    V  edge nodes                E  links (padded; a full-duplex link counts twice, once for each direction)
    H = 2V  hosts: edge nodes 0..V-1, their end devices V..2V-1
    M  services per episode      N  microservices per service (padded)     K  resource kinds of a host (cpu, memory)
    Q  columns of a timeline, two more than its breakpoints
    G, S, A, B  rows of the banks of topologies, DAGs, arrival patterns and background traces;   F  frames of a trace

Units: time s, data Mbit, bandwidth Mbit/s, load Mcycles, speed Mcycles/s.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import chex
from flax import struct
from jax import export

RewardKind = Literal["act", "expected-act", "ready-to-finish"]
INFEASIBLE = 1e9  # s, stands for `wait`, `execution` and `finish` where a microservice cannot run
MOST_LOAD = 0.9  # share of a host or link that other tenants may take, so that some of it is always left


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """Sizes of the arrays and choices fixed at compile time. Hashable: equal configs share one compilation."""

    num_nodes: int = 8  # V
    max_links: int = 18  # E
    num_services: int = 20  # M
    max_microservices: int = 50  # N
    num_resources: int = 2  # K
    link_breakpoints: int = 126  # capacity of the links' timeline
    host_breakpoints: int = 94  # capacity of each host's timeline
    reward: RewardKind = "act"  # see `reward.decision_reward`
    postpone: bool = False  # whether the action space has `Action.postpone`; `step` accepts it in any case

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name in ("reward", "postpone"):
                continue
            value, least = getattr(self, field.name), 3 if field.name.endswith("breakpoints") else 1
            if not isinstance(value, int) or value < least:
                raise ValueError(f"EnvConfig.{field.name}: got {value!r}; must be an integer of at least {least}")
        if self.max_microservices > 32_000:
            raise ValueError(f"EnvConfig.max_microservices: got {self.max_microservices}; must be at most 32000")
        if not isinstance(self.postpone, bool):
            raise ValueError(f"EnvConfig.postpone: got {self.postpone!r}; must be True or False")
        if self.reward not in get_args(RewardKind):
            raise ValueError(f"EnvConfig.reward: got {self.reward!r}; must be one of {', '.join(get_args(RewardKind))}")

    @property
    def num_hosts(self) -> int:
        """H: every edge node and the end device attached to it."""
        return 2 * self.num_nodes


class Network(struct.PyTreeNode):
    """Bank of topologies."""

    bandwidth: chex.Array  # (G, E) f32, Mbit/s; 0 on padding
    route: chex.Array  # (G, ceil(V / 32), V, E) u32, from `routing.packed`: which nodes' paths to a target cross a link
    bottleneck: chex.Array  # (G, V, V) f32, Mbit/s, least nominal bandwidth on the path; inf on the diagonal
    latency: chex.Array  # (G, V, V) f32, s, propagation delay of the path
    speed: chex.Array  # (G, H) f32, Mcycles/s; 0 if nothing can run there, as on a router
    capacity: chex.Array  # (G, H, K) f32, resources of a host


class Dags(struct.PyTreeNode):
    """Bank of services' DAGs. Microservices beyond `size` are padding, zero in every field but `in_degree` and `turn`.

    The input of a microservice lies at its predecessors' hosts and at the service's source, in proportion to a row of
    `sent`. A predecessor that sends nothing must finish first all the same.
    """

    size: chex.Array  # (S,) i32, microservices in the DAG
    preds: chex.Array  # (S, N, N) bool: [j, k] if k must finish before j starts
    load: chex.Array  # (S, N) f32, Mcycles, C of Eq. 1
    data: chex.Array  # (S, N) f32, Mbit of input, D of Eq. 3
    sent: chex.Array  # (S, N, N) f32, [j, k]: part of the input of j that k sends, in any unit; [j, j]: at the source
    demand: chex.Array  # (S, N, K) f32, resources held while running, R of Eq. 8
    # Derived by `banks.make_dags`, so that a reset and a decision read little:
    in_degree: chex.Array  # (S, N) i16, predecessors; -1 on padding
    entry: chex.Array  # (S,) i16, the microservice without predecessors whose turn is the lowest
    turn: chex.Array  # (S, N) i16, a permutation: of microservices that are ready at one time, the lowest is next
    rank: chex.Array  # (S, N) f32, Mcycles on the heaviest path from the microservice to an exit, both included
    work: chex.Array  # (S,) f32, Mcycles of all microservices


class Arrivals(struct.PyTreeNode):
    """Bank of arrival patterns: which services arrive, when and where."""

    dag: chex.Array  # (A, M) i32, row of `Dags`
    source: chex.Array  # (A, M) i32, edge node at which the service arrives, with its input
    release: chex.Array  # (A, M) f32, in mean gaps between arrivals (divide by `EnvParams.arrival_rate` for s)


class Background(struct.PyTreeNode):
    """Bank of other tenants' load, piecewise constant over frames. A trace is read cyclically."""

    load: chex.Array  # (B, F) f32, share in [0, 0.9] of a host's speed or of a link's bandwidth
    frame: chex.Array  # () f32, s, length T of a frame


class EnvParams(struct.PyTreeNode):
    """Numbers of the environment. They are leaves, so they may be vmapped, and changed without recompilation."""

    network: Network
    dags: Dags
    arrivals: Arrivals
    background: Background
    arrival_rate: chex.Array  # () f32, services/s
    max_steps_in_episode: chex.Array  # () i32; reaching it truncates
    # () f32, s, near what a microservice takes: agents measure times in it. It follows from network and DAGs by
    # `banks.time_unit`, which is to be called again where they are replaced.
    time_unit: chex.Array


class Timeline(struct.PyTreeNode):
    """Free shares of R cumulative resources as a step function of time.

    Each segment has a column, and `order` lists the columns in time order: segment k lasts from `times[order[k]]` to
    `times[order[k + 1]]`, and the last one for ever. Unused columns begin at infinity and are last. Without `order`,
    the columns themselves are in time order.
    """

    times: chex.Array  # (Q,) f32, s, when each column's segment begins; inf if unused
    order: chex.Array | None  # (Q,) i16, a permutation of the columns
    free: chex.Array  # (R, Q) f32, share of the resource not reserved; negative by at most a rounding error


class Episode(struct.PyTreeNode):
    """The small part of the state, which a reset rewrites. Times are relative to the beginning of the episode."""

    topology: chex.Array  # () i32, row of `Network`
    arrivals: chex.Array  # () i32, row of `Arrivals`
    offset: chex.Array  # (E + H,) i32, first frame of each link's and host's background in the flattened bank
    step: chex.Array  # () i32, steps taken, postponed decisions included
    merges: chex.Array  # () i32, timeline segments merged for lack of breakpoints
    begun: chex.Array  # (M,) bool: the service has had a decision, so that its rows of the tables are not stale
    next_ready: chex.Array  # (M,) f32, s, when the service's next microservice is due; inf when all are decided
    next_microservice: chex.Array  # (M,) i16, index of that microservice
    completion: chex.Array  # (M,) f32, s, TT_i so far (Eq. 5): latest finish minus release; 0 before the first decision
    makespan: chex.Array  # () f32, s, latest finish so far
    touched: chex.Array  # (H,) bool: the host has a reservation in this episode


class EnvState(struct.PyTreeNode):
    """State of one environment.

    A reset initialises `episode` and the links' timeline only, and so costs O(M + H + E Ql). A row of the tables is
    stale until its service has a decision, and a host's timeline until the host is touched.
    """

    episode: Episode
    links: Timeline  # (Ql,), (Ql,), (E, Ql)
    hosts: Timeline  # (H, Qh), None, (H, K, Qh)
    pending: chex.Array  # (M, N) i16, undecided predecessors; -1 on decided microservices and padding
    ready: chex.Array  # (M, N) f32, s, latest finish of decided predecessors, at least the release; later if postponed
    host: chex.Array  # (M, N) i16, host of a decided microservice
    work: chex.Array  # (M,) f32, Mcycles of each service's undecided microservices


class Action(struct.PyTreeNode):
    """One decision (Eq. 13). Values out of range are clipped; one that is not finite counts as its default."""

    host: chex.Array  # () i32, q: edge node 0..V-1, or end device V..2V-1
    bandwidth: chex.Array  # () f32, eta in [1e-3, 1], share of the path's effective bottleneck; by default 1
    hold: chex.Array  # () f32, s, eps >= 0, least delay of the flow, or of the execution if nothing moves; by default 0
    postpone: chex.Array | None = None  # () f32, s; if positive, nothing is reserved and it is due again so much later


class NodeObservation(struct.PyTreeNode):
    """Observation of each edge node. Times are relative to now; the microservice is the current one."""

    free: chex.Array  # (V, K) share of each resource free now, AR of Eq. 12
    share: chex.Array  # (V, K) share of each resource that the microservice takes
    speed: chex.Array  # (V,) Mcycles/s offered now
    load: chex.Array  # (V,) other tenants' share now
    backlog: chex.Array  # (V,) s until its last reservation ends
    committed: chex.Array  # (V,) s of the whole node reserved from now on, of the resource with the most
    inputs: chex.Array  # (V,) Mbit of the microservice's input held here
    wait: chex.Array  # (V,) s until the microservice could start here if its whole input were here now
    transfer: chex.Array  # (V,) s to bring the input here at nominal path bandwidths, without contention
    execution: chex.Array  # (V,) s, execution time here
    traffic: chex.Array  # (V,) s, sum over links of x_e / c_e for the coflow that brings the input here
    at_offered: chex.Array  # (V,) s to bring the input here at the bandwidths offered now, without contention
    at_free: chex.Array  # (V,) s to bring it at the bandwidths free now, of which a link has at least 1 %
    path_links: chex.Array  # (V,) links that the input crosses
    path_load: chex.Array  # (V,) largest load of other tenants on these links now
    path_busy: chex.Array  # (V,) s until the last reservation of any of these links ends
    path_committed: chex.Array  # (V,) s, largest backlog of these links
    path_committed_total: chex.Array  # (V,) s, sum of their backlogs
    path_contended: chex.Array  # (V,) s, largest sum of a link's backlog and of the time that it needs for the input
    data_ready: chex.Array  # (V,) s until the input would be here with bandwidth 1 and hold 0, given all reservations
    finish: chex.Array  # (V,) s until the microservice would then finish here, given all reservations
    ahead: chex.Array  # (V,) s, optimistic remaining path after the microservice if placed here: `observe.path_ahead`
    feasible: chex.Array  # (V,) 1 where the microservice can run; 0 elsewhere, with wait, execution, finish INFEASIBLE


class LinkObservation(struct.PyTreeNode):
    """Observation of each link; zero on padding."""

    free: chex.Array  # (E,) Mbit/s available to a new flow now, BW of Eq. 12
    load: chex.Array  # (E,) other tenants' share now
    bandwidth: chex.Array  # (E,) Mbit/s nominal
    backlog: chex.Array  # (E,) s of the whole link reserved from now on
    busy: chex.Array  # (E,) s until its last reservation ends


class MicroserviceObservation(struct.PyTreeNode):
    """Observation of the current microservice."""

    load: chex.Array  # () Mcycles, C
    data: chex.Array  # () Mbit, D
    demand: chex.Array  # (K,) R
    in_degree: chex.Array  # ()
    out_degree: chex.Array  # ()
    rank: chex.Array  # () Mcycles on the heaviest path from the microservice to an exit


class ServiceObservation(struct.PyTreeNode):
    """Observation of the current microservice's service."""

    remaining_load: chex.Array  # () Mcycles of undecided microservices
    remaining: chex.Array  # () undecided microservices
    age: chex.Array  # () s since its release
    slack: chex.Array  # () s until its latest finish so far; 0 if there is none
    expected: chex.Array  # () s until its expected completion: see `dag.expected_completion`
    others: chex.Array  # () other services released by now that have undecided microservices
    source: chex.Array  # (V,) one-hot, the edge node at which it arrived
    shorter: chex.Array  # () those of the others with less remaining work, or equal work and a lower index


class Observation(struct.PyTreeNode):
    """Everything an agent sees (Eq. 10); every leaf is float32. `observe.flatten` makes one vector of it."""

    nodes: NodeObservation
    links: LinkObservation
    microservice: MicroserviceObservation
    service: ServiceObservation
    time_unit: chex.Array  # () s, `EnvParams.time_unit`


Info = dict[str, Any]

for _node in [*vars().values()]:
    if isinstance(_node, type) and issubclass(_node, struct.PyTreeNode) and _node is not struct.PyTreeNode:
        # So that `jax.export` can serialise a function of them, such as a policy. They have leaves only.
        export.register_pytree_node_serialization(
            _node,
            serialized_name=f"jaxcec.{_node.__name__}",
            serialize_auxdata=lambda _: b"",
            deserialize_auxdata=lambda _: (),
        )
