"""What is measured of an episode beyond its ACT: slowdown, deadlines, fairness, utilisation, traffic and energy.

`decision_work` is what one decision makes hosts and links do. Its sums over an episode and the last state give every
measure, on the device. docs/results.md defines each of them.
"""

from __future__ import annotations

import dataclasses
from operator import add, sub
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.checks import check_numbers
from jaxcec.env import EnvParams, EnvState, Info, routing
from jaxcec.env.coflow import crossing, link_times
from jaxcec.env.execution import execution_time, share_of_capacity
from jaxcec.env.placement import current_situation


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Power:
    """Power of hosts and energy of links, from which `energy` follows.

    - An edge node: an HP ProLiant ML110 G4 (Xeon 3040) in SPECpower_ssj2008, idle and at full load, one of the servers
      of CloudSim. In between, its power is nearly linear in the load.
    - An end device: an HP iPAQ with an XScale of 400 MHz, idle and computing (Kumar and Lu, 'Cloud computing for mobile
      users: can offloading computation save energy?', IEEE Computer 43(4), 2010).
    - A link: one Ethernet switch, a Cisco 6509 with 3.8 kW at 160 Gbit/s, times 6 for redundancy, cooling and
      utilisation (Baliga et al., 'Green cloud computing', Proceedings of the IEEE 99(1), 2011).

    Raises:
        ValueError: a number is negative or not finite.
    """

    node_idle: float = 86.0  # W
    node_busy: float = 117.0  # W
    device_idle: float = 0.3  # W
    device_busy: float = 0.9  # W
    link: float = 6.0 * 3800.0 / 160_000.0  # J for each Mbit on each link that it crosses

    def __post_init__(self) -> None:
        check_numbers(self, "power.", least={field.name: 0.0 for field in dataclasses.fields(self)})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """Numbers that the measures depend on: leaves of a pytree, so others need no new compilation."""

    deadline: float = 10.0  # of each service, as a multiple of its lower bound (`service_bounds`)
    power: Power = dataclasses.field(default_factory=Power)

    def __post_init__(self) -> None:
        check_numbers(self, "", positive=("deadline",))


STANDARD = MeasureConfig()


class Work(NamedTuple):
    """What hosts and links do for one decision, or for several together."""

    nodes: chex.Array  # () s of whole edge nodes: share of the first kind of resource (cpu) x execution time
    devices: chex.Array  # () s of whole end devices
    traffic: chex.Array  # () Mbit x links
    links: chex.Array  # () s of whole links: Mbit over the nominal bandwidth, summed over the links


class Measures(NamedTuple):
    """Measures of an episode, in the order of `rollout.Episodes`."""

    p50: chex.Array  # () s, percentiles of the services' completion times, with linear interpolation
    p95: chex.Array
    p99: chex.Array
    makespan: chex.Array  # () s from the beginning of the episode to its last finish
    missed: chex.Array  # () share of the services that miss their deadline
    jain: chex.Array  # () Jain's index of the slowdowns: 1 if they are equal, 1 / M if one is all there is
    node_utilisation: chex.Array  # () mean share of the edge nodes' cpu until the makespan, routers left out
    link_utilisation: chex.Array  # () mean share of the links' nominal bandwidth until the makespan
    traffic: chex.Array  # () Mbit x links
    energy: chex.Array  # () J
    completion: chex.Array  # (M,) s
    slowdown: chex.Array  # (M,) completion over its lower bound


class Total(NamedTuple):
    """A compensated sum (Kahan's): its error is that of one addition in float32, however many terms it has."""

    sum: Work
    lost: Work  # what rounding has added too much so far

    @classmethod
    def of_nothing(cls, shape: tuple[int, ...] = ()) -> Total:
        """A sum without terms, of any batch shape."""
        zero = Work(*(jnp.zeros(shape) for _ in Work._fields))
        return cls(zero, zero)

    def plus(self, work: Work) -> Total:
        """The sum with one term more."""
        term = jax.tree.map(sub, work, self.lost)
        total = jax.tree.map(add, self.sum, term)
        return Total(total, jax.tree.map(lambda new, old, x: (new - old) - x, total, self.sum, term))


def decision_work(state: EnvState, info: Info, params: EnvParams) -> Work:
    """The work of one decision; zero if nothing was decided, as in a step that postpones.

    An execution counts with its duration itself, not with finish - start, whose last digits float32 loses late in an
    episode.

    Args:
        state: before the decision, of one environment.
        info: of the step that took it. `host` is where it runs after any redirection.
        params: the banks.
    """
    situation, host = current_situation(state, params), info["host"]
    num_nodes = situation.inputs.size
    route = routing.words(params.network.route, state.episode.topology, host[None] % num_nodes)
    sent = crossing(situation.inputs, route)
    cpu = share_of_capacity(situation.decision.demand, situation.capacity[host])[0]
    held = cpu * execution_time(situation.decision.load, situation.speed[host])
    work = Work(
        nodes=jnp.where(host < num_nodes, held, 0.0),
        devices=jnp.where(host < num_nodes, 0.0, held),
        traffic=jnp.sum(sent),
        links=jnp.sum(link_times(sent, situation.bandwidth)),
    )
    return jax.tree.map(lambda x: jnp.where(info["decided"], x, 0.0), work)


def decision_energy(state: EnvState, info: Info, params: EnvParams, *, power: Power = STANDARD.power) -> chex.Array:
    """() J by which a decision increases `energy`, including the idle time by which it delays the makespan.

    It depends on nothing later than the decision, and over an episode it sums to `energy`. Arguments: see
    `decision_work`.
    """
    longer = jnp.maximum(info["finish"] - state.episode.makespan, 0.0)
    return energy(
        decision_work(state, info, params),
        jnp.where(info["decided"], longer, 0.0),
        num_nodes=_running_nodes(state, params),
        power=power,
    )


def energy(work: Work, time: chex.Array, *, num_nodes: chex.Array, power: Power) -> chex.Array:
    """() J of some work and of () s in which `num_nodes` edge nodes are on.

    Edge nodes that can run something are on until the makespan, and their power rises linearly with the load. End
    devices are on for their users in any case, so only the power that computing adds counts.
    """
    return (
        power.node_idle * num_nodes * time
        + (power.node_busy - power.node_idle) * work.nodes
        + (power.device_busy - power.device_idle) * work.devices
        + power.link * work.traffic
    )


def service_bounds(state: EnvState, params: EnvParams) -> chex.Array:
    """Lower bound of each service's completion time: no policy completes it sooner, up to the rounding of times.

    It is the heaviest path of the service's DAG, in Mcycles, at the nominal speed of the fastest host of the topology.
    No microservice starts before its predecessors finish, and it runs in one piece on one host, whose speed is at most
    its nominal speed, as other tenants only slow a host down. Transfers, waits and holds count as nothing. All end
    devices count, not only the one at the service's source, because an action may name any host.

    Args:
        state: any state of the episode, of one environment.
        params: the banks.

    Returns:
        (M,) s; 0 for a service without load.
    """
    rank = jnp.max(params.dags.rank[params.arrivals.dag[state.episode.arrivals]], axis=-1)
    return rank / jnp.max(params.network.speed[state.episode.topology])


def episode_measures(state: EnvState, work: Work, params: EnvParams, *, config: MeasureConfig) -> Measures:
    """The measures of an episode from its last state and the work of all its decisions.

    A service without load has no bound above 0: its slowdown counts as 1.
    """
    completion, makespan = state.episode.completion, state.episode.makespan
    bound = service_bounds(state, params)
    slowdown = jnp.where(bound > 0.0, completion / jnp.where(bound > 0.0, bound, 1.0), 1.0)
    num_nodes, links = _running_nodes(state, params), params.network.bandwidth[state.episode.topology] > 0.0
    num_links = jnp.sum(links, dtype=jnp.int32).astype(jnp.float32)
    p50, p95, p99 = jnp.percentile(completion, jnp.array([50.0, 95.0, 99.0]))
    return Measures(
        p50=p50,
        p95=p95,
        p99=p99,
        makespan=makespan,
        missed=jnp.mean(slowdown > config.deadline, dtype=jnp.float32),
        jain=jain(slowdown),
        node_utilisation=_share(work.nodes, num_nodes * makespan),
        link_utilisation=_share(work.links, num_links * makespan),
        traffic=work.traffic,
        energy=energy(work, makespan, num_nodes=num_nodes, power=config.power),
        completion=completion,
        slowdown=slowdown,
    )


def jain(values: chex.Array) -> chex.Array:
    """Jain's index of fairness of (n,) values, () in [1 / n, 1]; 1 if all are 0.

    Jain, Chiu and Hawe, 'A quantitative measure of fairness and discrimination for resource allocation in shared
    computer systems', DEC-TR-301, 1984.
    """
    largest = jnp.max(values)
    scaled = values / jnp.where(largest > 0.0, largest, 1.0)  # squares of the values themselves may be infinite
    squares = jnp.sum(scaled**2) * values.size
    return jnp.where(largest > 0.0, jnp.sum(scaled) ** 2 / jnp.where(largest > 0.0, squares, 1.0), 1.0)


def _running_nodes(state: EnvState, params: EnvParams) -> chex.Array:
    """() number of edge nodes that can run something: a router cannot."""
    speed = params.network.speed[state.episode.topology]
    return jnp.sum(speed[: speed.size // 2] > 0.0, dtype=jnp.int32).astype(jnp.float32)


def _share(part: chex.Array, whole: chex.Array) -> chex.Array:
    """() part / whole, 0 of nothing: a network without links, an episode that takes no time."""
    return jnp.where(whole > 0.0, part / jnp.where(whole > 0.0, whole, 1.0), 0.0)
