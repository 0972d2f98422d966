"""CECEnv: collaborative edge computing as a Markov decision process (section IV of the paper).

The contract is gymnax 1.x's, without depending on gymnax. One step is one decision: `current_situation` says which
microservice is at hand, `place` times its flow and its execution, `reserve` books them, `commit` finds the next one.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import routing, timeline
from jaxcec.env.coflow import Flow
from jaxcec.env.dag import commit, expected_completion
from jaxcec.env.execution import Execution
from jaxcec.env.observe import Situation, current_situation, host_timelines, observe, place
from jaxcec.env.reward import act_increase, ready_to_finish
from jaxcec.env.spaces import Box, Discrete, Tree
from jaxcec.env.types import (
    Action,
    EnvConfig,
    EnvParams,
    EnvState,
    Episode,
    Info,
    LinkObservation,
    MicroserviceObservation,
    NodeObservation,
    Observation,
    ServiceObservation,
    Timeline,
)

LEAST_BANDWIDTH = 1e-3  # eta may not be 0
SAMPLED_HOLD = 60.0  # s, bound of the action space's samples; `step` takes any hold >= 0


class CECEnv:
    """Online joint microservice offloading and bandwidth allocation (JMOBA, Eq. 6-9).

    Observation: `Observation`, a pytree of float32. Action: `Action(host, bandwidth, hold)`.
    Reward: `EnvConfig.reward`, in s. Terminates when every microservice of the episode is decided.

    Environments of one class and equal config are equal and share one compilation. All methods are pure and may be
    vmapped.
    """

    name = "CEC"

    def __init__(self, config: EnvConfig, default_params: EnvParams | None = None):
        self.config = config
        self._default_params = default_params

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
        """H: hosts to choose from, edge nodes first."""
        return self.config.num_hosts

    def reset(self, key: chex.PRNGKey, params: EnvParams | None = None) -> tuple[Observation, EnvState]:
        """Draw an episode: topology, arrival pattern and background, each uniform over its bank."""
        return self.reset_env(key, self.default_params if params is None else params)

    def step(
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams | None = None
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, chex.Array, Info]:
        """One decision; a finished episode is followed by a newly drawn one.

        Returns:
            observation (of the new episode where one ended), state, () f32 reward, () bool terminated, () bool
            truncated (never both), info: what `step_env` gives, and `terminated`, `truncated`, `final_observation`.
        """
        return self._step(key, state, action, self.default_params if params is None else params)

    # The compiled bodies take params as an argument: equal environments share them, whatever their default params.
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
        """`reset` with params given."""
        c = self.config
        table = (c.num_services, c.max_microservices)
        per_host = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (c.num_hosts, *x.shape)), timeline.empty(c.num_resources, c.host_breakpoints)
        )
        state = EnvState(
            episode=self._draw(key, params),
            links=timeline.indexed(timeline.empty(c.max_links, c.link_breakpoints)),
            hosts=per_host,
            pending=jnp.zeros(table, jnp.int16),
            ready=jnp.zeros(table, jnp.float32),
            host=jnp.zeros(table, jnp.int16),
        )
        return observe(state, params), state

    @partial(jax.jit, static_argnums=0)
    def step_env(
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, Info]:
        """One decision without time limit or auto-reset; after the end nothing changes and the reward is 0.

        Returns:
            observation, state, () f32 reward, () bool terminated, and info, the decision's record: `time` s, `service`,
            `microservice`, `host`, `flow_start` s, `data_ready` s, `start` s, `finish` s, `decided` (false after the
            end); `act` s, the episode's ACT at its end and 0 before; `merges` so far.
        """
        del key  # dynamics are deterministic; the argument is the contract's
        state, reward, info = self._decide(state, action, params)
        return observe(state, params), state, reward, self.is_terminated(state), info

    def observe(
        self, key: chex.PRNGKey, state: EnvState, action: Action | None = None, params: EnvParams | None = None
    ) -> Observation:
        """The observation of a state (gymnax's hook; key and action are not used)."""
        del key, action
        return observe(state, self.default_params if params is None else params)

    def is_terminated(self, state: EnvState) -> chex.Array:
        """() bool: every microservice is decided."""
        return ~jnp.any(jnp.isfinite(state.episode.next_ready))

    def is_truncated(self, state: EnvState, params: EnvParams) -> chex.Array:
        """() bool: the episode has had `max_steps_in_episode` decisions."""
        return state.episode.step >= params.max_steps_in_episode

    def action_space(self, params: EnvParams | None = None) -> Tree:
        """Hosts, bandwidth share, hold. Samples hold for at most a minute; `step` takes any hold >= 0."""
        del params
        return Tree(
            Action(
                host=Discrete(self.config.num_hosts),
                bandwidth=Box(LEAST_BANDWIDTH, 1.0),
                hold=Box(0.0, SAMPLED_HOLD),
            )
        )

    def observation_space(self, params: EnvParams | None = None) -> Tree:
        """Non-negative float32 arrays of the shapes in `types.Observation`."""
        del params
        c = self.config
        v, e, k = (c.num_nodes,), (c.max_links,), (c.num_resources,)

        def boxes(cls: type, odd: dict[str, tuple[int, ...]], shape: tuple[int, ...]) -> chex.ArrayTree:
            names = (field.name for field in dataclasses.fields(cls))
            return cls(**{name: Box(0.0, float("inf"), odd.get(name, shape)) for name in names})

        return Tree(
            Observation(
                nodes=boxes(NodeObservation, {"free": v + k}, v),
                links=boxes(LinkObservation, {}, e),
                microservice=boxes(MicroserviceObservation, {"demand": k}, ()),
                service=boxes(ServiceObservation, {"source": v}, ()),
            )
        )

    def _draw(self, key: chex.PRNGKey, params: EnvParams) -> Episode:
        """A new episode: indices into the banks, and every service waiting for its first microservice."""
        c = self.config
        # Modulo rather than randint, which draws twice as much to be rid of a bias of 2^-32 times the bank's size.
        bits = jax.random.bits(key, (2 + c.max_links + c.num_hosts,), jnp.uint32)

        def rows(drawn: chex.Array, size: int) -> chex.Array:
            return (drawn % jnp.uint32(size)).astype(jnp.int32)

        topology = rows(bits[0], params.network.bandwidth.shape[0])
        arrivals = rows(bits[1], params.arrivals.dag.shape[0])
        offset = rows(bits[2:], params.background.load.size)
        return Episode(
            topology=topology,
            arrivals=arrivals,
            offset=offset,
            step=jnp.int32(0),
            merges=jnp.int32(0),
            decided=jnp.zeros(c.num_services, jnp.int16),
            next_ready=params.arrivals.release[arrivals] / params.arrival_rate,
            next_microservice=params.dags.entry[params.arrivals.dag[arrivals]],
            completion=jnp.zeros(c.num_services, jnp.float32),
            makespan=jnp.float32(0.0),
            touched=jnp.zeros(c.num_hosts, bool),
        )

    def _decide(self, state: EnvState, action: Action, params: EnvParams) -> tuple[EnvState, chex.Array, Info]:
        """Place the microservice at hand, book it, and find the next one."""
        situation = current_situation(state, params)
        decision = situation.decision
        host = jnp.clip(action.host, 0, self.config.num_hosts - 1).astype(jnp.int32)
        eta = jnp.clip(action.bandwidth, LEAST_BANDWIDTH, 1.0).astype(jnp.float32)
        eps = jnp.maximum(action.hold, 0.0).astype(jnp.float32)
        route = routing.words(params.network.route, state.episode.topology, host[None] % self.config.num_nodes)
        table = host_timelines(situation, host[None])
        placed = place(situation, host[None], table, route, eta[None], eps[None])
        flow, execution, table = jax.tree.map(lambda x: x[0], (*placed, table))

        following = commit(state, decision, host, execution.finish, params.dags)
        following = _book(following, situation, host, table, flow, execution)
        reward = self._reward(state, following, situation, execution, params)
        ended = decision.active & self.is_terminated(following)
        info = {
            "time": decision.time,
            "service": decision.service,
            "microservice": decision.microservice,
            "host": host,
            "flow_start": flow.start,
            "data_ready": flow.ready,
            "start": execution.start,
            "finish": execution.finish,
            "decided": decision.active,
            "act": jnp.where(ended, jnp.mean(following.episode.completion), 0.0),
            "merges": following.episode.merges,
        }
        return following, reward, info

    def _reward(
        self, before: EnvState, after: EnvState, situation: Situation, execution: Execution, params: EnvParams
    ) -> chex.Array:
        i = situation.decision.service
        if self.config.reward == "act":
            reward = act_increase(before.episode.completion[i], after.episode.completion[i])
        elif self.config.reward == "expected-act":
            decision = situation.decision
            rank, speed = params.dags.rank[decision.dag], params.network.speed[before.episode.topology]

            def expected(pending: chex.Array, ready: chex.Array, state: EnvState) -> chex.Array:
                return expected_completion(pending, ready, rank, speed, decision.release, state.episode.completion[i])

            reward = act_increase(
                expected(decision.pending, decision.ready, before), expected(after.pending[i], after.ready[i], after)
            )
        else:
            reward = ready_to_finish(situation.decision.time, execution.finish)
        return jnp.where(situation.decision.active, reward, 0.0)


def _book(
    state: EnvState, situation: Situation, host: chex.Array, table: Timeline, flow: Flow, execution: Execution
) -> EnvState:
    """Reserve the links for the flow and the host for the execution, unless there is nothing to decide."""
    active, now = situation.decision.active, situation.decision.time
    links, link_merges = timeline.reserve(
        situation.links, flow.usage, flow.start, jnp.where(active, flow.ready, flow.start), now
    )
    table, host_merges = timeline.reserve(
        table,
        execution.usage,
        execution.start,
        jnp.where(active, execution.finish, execution.start),
        now,
    )
    return state.replace(
        episode=state.episode.replace(
            merges=state.episode.merges + link_merges + host_merges,
            touched=state.episode.touched.at[host].max(active),
        ),
        links=links,
        hosts=jax.tree.map(lambda rows, row: rows.at[host].set(row), state.hosts, table),
    )


def _begin_where(ended: chex.Array, state: EnvState, episode: Episode) -> EnvState:
    """Start a new episode where one ended: only the small part of the state and the links' timeline are rewritten."""

    def choose(new: chex.Array, old: chex.Array) -> chex.Array:
        return jnp.where(ended, new, old)

    return state.replace(
        episode=jax.tree.map(choose, episode, state.episode),
        links=jax.tree.map(choose, timeline.cleared(state.links), state.links),
    )
