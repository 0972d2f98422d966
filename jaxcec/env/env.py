"""CECEnv: collaborative edge computing as a Markov decision process (section IV of the paper).

The contract is gymnax 1.x's, without a dependency on gymnax. One step is one decision: `current_situation` gathers the
current decision, `place` times its flow and its execution, `reserve` reserves them, `commit` finds the next decision.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import and_

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import routing, timeline
from jaxcec.env.check import check_params, is_concrete
from jaxcec.env.dag import any_undecided, booked, commit, current_decision, postponed, postponed_until
from jaxcec.env.indexing import put, put_one, take
from jaxcec.env.observe import observation_space, observe
from jaxcec.env.placement import Placed, Situation, current_situation, place
from jaxcec.env.reward import decision_reward
from jaxcec.env.spaces import Box, Discrete, Tree
from jaxcec.env.types import Action, EnvConfig, EnvParams, EnvState, Episode, Info, Observation

LEAST_BANDWIDTH = 1e-3  # eta must not be 0
SAMPLED_HOLD = 60.0  # s, bound of the action space's samples; `step` accepts any hold >= 0
LONGEST = 1e9  # s, of a hold or postponement: longer ones are clipped, so that times stay finite
_observe = jax.jit(observe, inline=True)  # for callers that do not compile


class CECEnv:
    """Online joint microservice offloading and bandwidth allocation (JMOBA, Eq. 6-9).

    Services arrive at the edge nodes of a network. Each service is a DAG of microservices, and each decision chooses
    where the next ready microservice runs and how its input travels there. The objective is the average completion
    time (ACT) of the services.

    - observation: `Observation`, a pytree of float32 arrays (Eq. 10-12); `flatten` makes one vector of it.
        - nodes: of each edge node, free resources and speed now, and how soon the microservice could have its input
          there and finish there, (V,) or (V, K).
        - links: free and nominal bandwidth, load and backlog of each link, (E,).
        - microservice: load, data, demand, degrees and rank of the current microservice.
        - service: progress of its service, the number of other services, and the source node.
    - action: `Action` (Eq. 13); values out of range are clipped.
        - host: () i32 in [0, 2V), an edge node or, from V on, its end device.
        - bandwidth: () f32 in [1e-3, 1], share of the path's effective bottleneck.
        - hold: () f32, s, at least 0, least delay of the flow, or of the execution if nothing has to move.
        - postpone: () f32, s, or None for never. If positive, nothing is reserved, and the microservice is decided
            again that much later (at least 1 ms), after the microservices that are due before.
        A microservice that cannot run on the chosen host (`observation.nodes.feasible`) goes to the feasible edge node
        of the lowest index, or to its service's end device if there is none.
    - reward: () f32, s, of the kind `EnvConfig.reward` (see `reward.decision_reward`). With the default, `act`, the
        rewards of an episode sum to -M x ACT.
    - end of an episode: `terminated` once every microservice is decided; `truncated` after
        `EnvParams.max_steps_in_episode` steps otherwise. `step` then begins the next episode; `step_env` does not.
    - state: `EnvState`, the reservations on links and hosts and the progress of each service.
    - params: `EnvParams`, the banks from which `reset` draws an episode: topologies, DAGs, arrivals, background load.

    All methods are pure and may be vmapped. Environments of one class and equal config are equal and share one
    compilation.

    ```python
    env, params = jaxcec.make("calibrated-v0")
    key = jax.random.key(0)
    observation, state = env.reset(key, params)
    action = env.action_space(params).sample(key)
    observation, state, reward, terminated, truncated, info = env.step(key, state, action, params)
    ```

    Args:
        config: sizes of the arrays, and the kind of reward.
        default_params: banks for calls without `params`.

    Raises:
        ValueError: see `check_params`, which `reset` and `step` also call, but not inside of a compiled function or
            under vmap over params: there, call it where you make or replace the params.
    """

    name = "CEC"

    def __init__(self, config: EnvConfig, default_params: EnvParams | None = None) -> None:
        self.config = config
        self._default_params = self._valid = None if default_params is None else check_params(config, default_params)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.config)

    @property
    def default_params(self) -> EnvParams:
        """The banks this environment was made with."""
        if self._default_params is None:
            raise ValueError("default_params: this CECEnv was made without any; pass params to reset and step")
        return self._default_params

    @property
    def num_actions(self) -> int:
        """H, the number of hosts: edge nodes first, then end devices."""
        return self.config.num_hosts

    def reset(self, key: chex.PRNGKey, params: EnvParams | None = None) -> tuple[Observation, EnvState]:
        """Draw an episode: topology, arrival pattern and background, each uniform over its bank."""
        return self.reset_env(key, self.checked(params))

    def step(
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams | None = None
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, chex.Array, Info]:
        """Take one decision; if the episode ends, draw a new one.

        Returns:
            observation (of the new episode if one ended), state, () f32 reward in s, () bool terminated, () bool
            truncated (never both), and info: that of `step_env`, with `terminated`, `truncated` and
            `final_observation`, the observation before the reset.
        """
        return self._step(key, state, action, self.checked(params))

    def checked(self, params: EnvParams | None) -> EnvParams:
        """The params, or by default those of the environment; only params other than in the last call are checked."""
        if params is None:
            return self.default_params
        if params is not self._valid:
            check_params(self.config, params)
            self._valid = params if is_concrete(params) else self._valid
        return params

    # The compiled bodies take params as an argument, so that equal environments share them despite different defaults.
    @partial(jax.jit, static_argnums=0)
    def _step(
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, chex.Array, Info]:
        state, reward, info = self._decide(state, action, params)
        terminated = self.is_terminated(state)
        truncated = self.is_truncated(state, params) & ~terminated
        info |= {"terminated": terminated, "truncated": truncated, "final_observation": observe(state, params)}
        state = _begin_where(terminated | truncated, state, self._draw(key, params))
        return observe(state, params), state, reward, terminated, truncated, info

    @partial(jax.jit, static_argnums=0)
    def reset_env(self, key: chex.PRNGKey, params: EnvParams) -> tuple[Observation, EnvState]:
        """`reset` with explicit params."""
        c = self.config
        table = (c.num_services, c.max_microservices)
        hosts = timeline.empty(c.num_resources, c.host_breakpoints)
        hosts = jax.tree.map(lambda x: jnp.broadcast_to(x, (c.num_hosts, *x.shape)), hosts)
        state = EnvState(
            episode=self._draw(key, params),
            links=timeline.indexed(timeline.empty(c.max_links, c.link_breakpoints)),
            hosts=hosts,
            pending=jnp.zeros(table, jnp.int16),
            ready=jnp.zeros(table, jnp.float32),
            host=jnp.zeros(table, jnp.int16),
            work=jnp.zeros(c.num_services, jnp.float32),
        )
        return observe(state, params), state

    @partial(jax.jit, static_argnums=0)
    def step_env(
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, Info]:
        """Take one decision without time limit or auto-reset; after termination the reward is 0 and nothing changes.

        Returns:
            observation, state, () f32 reward in s, () bool terminated, and info, the record of the decision: `time` s,
            `service`, `microservice`, `host`, `flow_start` s, `flow_end` s, `data_ready` s, `start` s, `finish` s,
            `decided` (false after termination, and if the decision was `postponed`: the times are then all that at
            which it is due again), `postponed`, `redirected` (the microservice could not run on the chosen host),
            `invalid` (some number of the action was not finite), `act` s (the episode's ACT when it terminates,
            otherwise 0), and `merges` so far.
        """
        del key  # The dynamics are deterministic; the contract requires the argument.
        state, reward, info = self._decide(state, action, params)
        return observe(state, params), state, reward, self.is_terminated(state), info

    @partial(jax.jit, static_argnums=0)
    def step_as_foreseen(
        self, state: EnvState, action: Action, params: EnvParams, *, data_ready: chex.Array, wait: chex.Array
    ) -> tuple[EnvState, Info]:
        """Take one decision as a model of timing foresees it: the step of a digital twin instead of the mechanism's.

        The reservations are those of `step_env`, but for when they begin, and there may be more of them at a time than
        a link or a host has room for.

        Args:
            state: of the twin.
            action: as in `step_env`.
            params: of the twin.
            data_ready: () s from now, when the whole input has arrived.
            wait: () s, from then until the execution starts.

        Returns:
            The state and info, both as in `step_env`.
        """
        now = current_decision(state, params).time
        state, _, info = self._decide(state, action, params, foreseen=(now + data_ready, now + data_ready + wait))
        return state, info

    def observe(
        self, key: chex.PRNGKey, state: EnvState, action: Action | None = None, params: EnvParams | None = None
    ) -> Observation:
        """The observation of a state (gymnax's hook; key and action are unused)."""
        return _observe(state, self.default_params if params is None else params)

    def is_terminated(self, state: EnvState) -> chex.Array:
        """() bool: every microservice is decided."""
        return ~any_undecided(state)

    def is_truncated(self, state: EnvState, params: EnvParams) -> chex.Array:
        """() bool: the episode has had `max_steps_in_episode` steps, postponed decisions included."""
        return state.episode.step >= params.max_steps_in_episode

    def action_space(self, params: EnvParams | None = None) -> Tree:
        """Host, bandwidth share, hold, and with `EnvConfig.postpone` the postponement, half of whose range is none.

        Samples hold or postpone for at most a minute; `step` accepts any number.
        """
        return Tree(
            Action(
                host=Discrete(self.config.num_hosts),
                bandwidth=Box(LEAST_BANDWIDTH, 1.0),
                hold=Box(0.0, SAMPLED_HOLD),
                postpone=Box(-SAMPLED_HOLD, SAMPLED_HOLD) if self.config.postpone else None,
            )
        )

    def observation_space(self, params: EnvParams | None = None) -> Tree:
        """Non-negative float32 arrays of the shapes in `types.Observation`."""
        return observation_space(self.config)

    def _draw(self, key: chex.PRNGKey, params: EnvParams) -> Episode:
        """A new episode: indices into the banks, and every service at its first microservice."""
        c = self.config
        # Modulo rather than randint, which draws twice as many bits to remove a bias of 2^-32 times the bank's size.
        bits = jax.random.bits(key, (2 + c.max_links + c.num_hosts,), jnp.uint32)

        def rows(drawn: chex.Array, size: int) -> chex.Array:
            return (drawn % jnp.uint32(size)).astype(jnp.int32)

        topology = rows(bits[0], params.network.bandwidth.shape[0])
        arrivals = rows(bits[1], params.arrivals.dag.shape[0])
        dag = take(params.arrivals.dag, arrivals)
        return Episode(
            topology=topology,
            arrivals=arrivals,
            offset=rows(bits[2:], params.background.load.size),
            step=jnp.int32(0),
            merges=jnp.int32(0),
            begun=jnp.zeros(c.num_services, bool),
            next_ready=take(params.arrivals.release, arrivals) / params.arrival_rate,
            next_microservice=take(params.dags.entry, dag),
            completion=jnp.zeros(c.num_services, jnp.float32),
            makespan=jnp.float32(0.0),
            touched=jnp.zeros(c.num_hosts, bool),
        )

    def _decide(
        self, state: EnvState, action: Action, params: EnvParams, foreseen: tuple[chex.Array, chex.Array] | None = None
    ) -> tuple[EnvState, chex.Array, Info]:
        """Place the current microservice, reserve its flow and execution, and find the next one.

        With `foreseen`, the input arrives and the execution starts at these times, () s each.
        """
        situation = current_situation(state, params)
        decision, topology = situation.decision, state.episode.topology
        chosen, invalid = _in_range(action, self.config.num_hosts)
        host = _feasible(chosen.host, situation)
        node = host[None] % self.config.num_nodes
        placed = place(
            situation,
            host[None],
            route=routing.words(params.network.route, topology, node),
            latency=take(params.network.latency, topology, slice(None), node).T,
            eta=chosen.bandwidth[None],
            eps=chosen.hold[None],
        )
        placed = jax.tree.map(lambda x: x[0], placed)
        placed = placed if foreseen is None else _moved(placed, *foreseen)
        flow, execution, _ = placed

        progress = booked(state, decision, host=host, finish=execution.finish, dags=params.dags)
        record = {"host": host, "flow_start": flow.start, "flow_end": flow.end, "data_ready": flow.ready}
        record |= {"start": execution.start, "finish": execution.finish}
        put_off = jnp.zeros_like(decision.active)
        if chosen.postpone is not None:
            put_off = decision.active & (chosen.postpone > 0.0)
            due = postponed_until(decision.time, chosen.postpone)
            later = postponed(state, decision, due), dict.fromkeys(record, due) | {"host": chosen.host}
            progress, record = jax.tree.map(lambda x, y: jnp.where(put_off, x, y), later, (progress, record))
        books = decision.active & ~put_off
        after = commit(state, decision, progress, params.dags)
        after = _reserve(after, decision.time, books, host=host, placed=placed)
        reward = decision_reward(
            self.config.reward, decision, before=state, after=after, until=record["finish"], params=params
        )
        ended = books & self.is_terminated(after)
        info = {
            "time": decision.time,
            "service": decision.service,
            "microservice": decision.microservice,
            **record,
            "decided": books,
            "postponed": put_off,
            "redirected": books & (host != chosen.host),
            "invalid": decision.active & invalid,
            "act": jnp.where(ended, jnp.mean(after.episode.completion), 0.0),
            "merges": after.episode.merges,
        }
        return after, reward, info


def _in_range(action: Action, num_hosts: int) -> tuple[Action, chex.Array]:
    """The action with every number in its range, and () bool, whether one was not finite."""
    finite = {name: jnp.isfinite(value) for name, value in vars(action).items() if value is not None}

    def clipped(name: str, *, low: float, high: float, default: float) -> chex.Array:
        value = jnp.where(finite[name], getattr(action, name), default)
        return jnp.clip(value, low, high).astype(jnp.float32)

    in_range = Action(
        host=jnp.clip(jnp.where(finite["host"], action.host, 0), 0, num_hosts - 1).astype(jnp.int32),
        bandwidth=clipped("bandwidth", low=LEAST_BANDWIDTH, high=1.0, default=1.0),
        hold=clipped("hold", low=0.0, high=LONGEST, default=0.0),
        postpone=None if action.postpone is None else clipped("postpone", low=0.0, high=LONGEST, default=0.0),
    )
    return in_range, ~reduce(and_, finite.values())


def _moved(placed: Placed, data_ready: chex.Array, start: chex.Array) -> Placed:
    """A flow and an execution of the same durations whose input arrives and which starts at other times, () s each."""
    flow, execution, host_timeline = placed
    later, finish = data_ready - flow.ready, start + (execution.finish - execution.start)
    flow = flow.replace(start=flow.start + later, end=flow.end + later, ready=data_ready)
    return flow, execution.replace(start=start, finish=finish), host_timeline


def _feasible(host: chex.Array, situation: Situation) -> chex.Array:
    """The host if the microservice can run there, otherwise where it is redirected to; () i32 each."""
    hosts, num_nodes = jnp.arange(situation.feasible.size, dtype=jnp.int32), situation.inputs.size
    device = hosts == num_nodes + situation.decision.source
    rank = jnp.where(situation.feasible, jnp.where(hosts == host, 3, jnp.where(hosts < num_nodes, 2, 0)), 0)
    return jnp.argmax(jnp.maximum(rank, device.astype(jnp.int32))).astype(jnp.int32)


def _reserve(state: EnvState, now: chex.Array, books: chex.Array, *, host: chex.Array, placed: Placed) -> EnvState:
    """Reserve the links for the flow and the host for the execution if () bool `books`."""
    flow, execution, host_timeline = placed
    flow_end = jnp.where(books, flow.end, flow.start)
    links, link_merges = timeline.reserve(state.links, flow.usage, start=flow.start, end=flow_end, now=now)
    finish = jnp.where(books, execution.finish, execution.start)
    row, host_merges = timeline.reserve(host_timeline, execution.usage, start=execution.start, end=finish, now=now)
    merges = state.episode.merges + link_merges + host_merges
    touched = put_one(state.episode.touched, host, take(state.episode.touched, host) | books)
    episode = state.episode.replace(merges=merges, touched=touched)
    hosts = jax.tree.map(lambda table, new: put(table, host, new), state.hosts, row)
    return state.replace(episode=episode, links=links, hosts=hosts)


def _begin_where(ended: chex.Array, state: EnvState, episode: Episode) -> EnvState:
    """Begin a new episode if one ended; only the small part of the state and the links' timeline are rewritten."""
    choose = partial(jax.tree.map, partial(jnp.where, ended))
    return state.replace(
        episode=choose(episode, state.episode), links=choose(timeline.cleared(state.links), state.links)
    )
