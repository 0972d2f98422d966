"""Whole episodes under a policy, in one compiled loop; the same simulator scores every policy."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import Action, CECEnv, EnvParams, EnvState, Observation, World, any_undecided, check_params, known_world
from jaxcec.evaluation.measures import STANDARD, MeasureConfig, Total, decision_work, episode_measures
from jaxcec.policies import (
    BASELINES,
    EFT_PLAN,
    INFORMATION,
    PEFT_PLAN,
    RANDOM_PLANS,
    PlanConfig,
    Policy,
    Prefer,
    as_now,
    best_of_random,
    plan,
    prefer_priced_finish,
    prefer_priced_path,
)

Apply = Callable[[Any, Observation, World, chex.PRNGKey], Action]  # (params, observation, known world, key) -> Action
Decide = Callable[[Observation, EnvState, chex.PRNGKey], Action]  # for a batch of environments; may read the future
MOST_POSTPONED = 20  # times as many steps as microservices, after which nothing is postponed any more
COUNTS = ("decisions", "moved", "merges", "postponed", "redirected", "invalid")
Carry = tuple[Observation, EnvState, dict[str, chex.Array], Total, chex.Array]  # with the step's index last


class Contender(NamedTuple):
    """A named policy; its parameters are apart from its function, so new parameters need no new compilation.

    A learned policy is `Contender(name, apply, params)`; the class methods make the others. Equal functions share one
    compilation.
    """

    name: str
    apply: Apply
    params: Any = None
    information: str = ""  # what the policy sees of nodes and links, in words; empty if that is not known

    def play(
        self, env: CECEnv, env_params: EnvParams, keys: chex.PRNGKey, *, measuring: MeasureConfig = STANDARD
    ) -> Episodes:
        """One episode per key to its end: see `rollout`.

        Raises:
            ValueError: invalid params, or the policy's actions have numbers that are not finite.
        """
        policy = {"apply": self.apply, "params": self.params}
        return _checked(self.name, rollout(env, env_params, **policy, keys=keys, measuring=measuring))

    @classmethod
    def of_rule(cls, name: str, policy: Policy, information: str = "") -> Contender:
        """A policy from an observation and a key to an action: a function, or a callable pytree with parameters.

        The arrays of a pytree, such as an Equinox module, become the contender's parameters.
        """
        arrays = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array | np.ndarray) else None, policy)
        rest = jax.tree.map(lambda leaf: None if isinstance(leaf, jax.Array | np.ndarray) else leaf, policy)
        return cls(name, _Rule(rest), arrays, information)

    @classmethod
    def of_planner(cls, name: str, env: CECEnv, *, config: PlanConfig, prefer: Prefer) -> Contender:
        """A policy that plans in the known world from a base policy: see `policies.plan`."""
        return cls(name, _Planner(env, config, prefer), information="lookahead")

    @classmethod
    def of_random_plans(cls, name: str, env: CECEnv, *, config: PlanConfig) -> Contender:
        """A policy that executes the first action of the best random plan: see `policies.best_of_random`."""
        return cls(name, _Planner(env, config), information="lookahead")


# Classes rather than functions made by functions: equal arguments are equal, so that JAX finds the compiled program
# again, and they can be pickled.
class _Rule:
    """A policy without its arrays, which it is called with."""

    def __init__(self, rest: Any) -> None:
        self.rest = rest

    def __call__(self, arrays: Any, observation: Observation, world: World, key: chex.PRNGKey) -> Action:
        whole = jax.tree.map(
            lambda leaf, array: array if leaf is None else leaf, self.rest, arrays, is_leaf=lambda leaf: leaf is None
        )
        return whole(observation, key)

    def _key(self) -> tuple[Any, ...]:
        """What equals in equal policies; a leaf that cannot be hashed, such as a dataclass, equals itself only."""
        leaves, structure = jax.tree.flatten(self.rest)
        return structure, *(leaf if _has_hash(leaf) else id(leaf) for leaf in leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rule) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def _has_hash(leaf: Any) -> bool:
    """Whether a leaf can be hashed; a frozen dataclass with arrays claims that it can, and fails."""
    try:
        hash(leaf)
    except TypeError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class _Planner:
    env: CECEnv
    config: PlanConfig
    prefer: Prefer | None = None  # None: random plans

    def __call__(self, params: Any, observation: Observation, world: World, key: chex.PRNGKey) -> Action:
        if self.prefer is None:
            return best_of_random(self.env, world, key, config=self.config)
        return plan(self.env, world, key, config=self.config, prefer=self.prefer, forecast=as_now).action


def baseline_contenders(env: CECEnv, *, plan_steps: int | None = None) -> list[Contender]:
    """Every policy that is not learned: the rules of `policies.BASELINES` and three planners.

    The planners are `eft-rollout` and `peft-rollout`, rollouts of the rule `eft-priced` and of a rule that also counts
    half of the remaining path, and `best-of-random`. They simulate as many decisions ahead as their settings say, or
    `plan_steps`.
    """

    def ahead(config: PlanConfig) -> PlanConfig:
        return config if plan_steps is None else dataclasses.replace(config, steps=plan_steps)

    rules = [Contender.of_rule(name, policy, INFORMATION.get(name, "lookahead")) for name, policy in BASELINES.items()]
    return [
        *rules,
        Contender.of_planner("eft-rollout", env, config=ahead(EFT_PLAN), prefer=prefer_priced_finish),
        Contender.of_planner("peft-rollout", env, config=ahead(PEFT_PLAN), prefer=prefer_priced_path),
        Contender.of_random_plans("best-of-random", env, config=ahead(RANDOM_PLANS)),
    ]


class Episodes(NamedTuple):
    """Measures of each episode, (episodes,) each, of each of its services, and of each of its microservices.

    The measures from `p50` to `slowdown` are those of `measures.Measures`. Where a service has fewer than N
    microservices, the rest of its rows of `host` and `decided_at` means nothing.
    """

    act: chex.Array  # s
    decisions: chex.Array
    moved: chex.Array  # decisions for another host than the source's edge node
    merges: chex.Array  # timeline segments merged
    postponed: chex.Array  # decisions postponed, each time
    redirected: chex.Array  # decisions for a host that could not run the microservice
    invalid: chex.Array  # actions with a number that is not finite
    p50: chex.Array  # s, percentiles of the completion times of the episode's services
    p95: chex.Array  # s
    p99: chex.Array  # s
    makespan: chex.Array  # s
    missed: chex.Array  # share of the services that miss their deadline
    jain: chex.Array  # Jain's index of the slowdowns
    node_utilisation: chex.Array  # share of the edge nodes' cpu until the makespan
    link_utilisation: chex.Array  # share of the links' bandwidth until the makespan
    traffic: chex.Array  # Mbit x links
    energy: chex.Array  # J
    completion: chex.Array  # (episodes, M) s
    slowdown: chex.Array  # (episodes, M), completion over its lower bound
    host: chex.Array  # (episodes, M, N) i16
    decided_at: chex.Array  # (episodes, M, N) s
    topology: chex.Array  # (episodes,) i32, row of `EnvParams.network`
    arrivals: chex.Array  # (episodes,) i32, row of `EnvParams.arrivals`


MEASURES = Episodes._fields[: Episodes._fields.index("completion")]  # one number of each episode


class Result(NamedTuple):
    """Episodes under one policy, as numpy arrays, and how long it took to play them."""

    episodes: Episodes
    seconds: float

    @classmethod
    def joined(cls, parts: Sequence[Result]) -> Result:
        """The result of several batches of episodes."""
        columns = zip(*(part.episodes for part in parts), strict=True)
        return cls(Episodes(*map(np.concatenate, columns)), sum(part.seconds for part in parts))

    def in_order(self, rows: np.ndarray) -> Result:
        """The result with its episodes in another order."""
        return self._replace(episodes=Episodes(*(column[rows] for column in self.episodes)))

    @property
    def decisions_per_s(self) -> float:
        """Decisions of all episodes per second."""
        return float(self.episodes.decisions.sum()) / self.seconds

    @property
    def moved(self) -> float:
        """Share of decisions for another host than the source's edge node."""
        return float(self.episodes.moved.sum() / self.episodes.decisions.sum())


def episode_keys(seed: int, count: int) -> chex.PRNGKey:
    """(count,) keys, each of which draws one episode.

    Equal keys draw equal episodes under every policy, so comparisons of policies are paired.
    """
    return jax.random.split(jax.random.key(seed), count)


def decisions_of(env: CECEnv, env_params: EnvParams, keys: chex.PRNGKey) -> chex.Array:
    """(episodes,) i32, the number of microservices in the episode of each key."""
    _, state = jax.vmap(env.reset_env, in_axes=(0, None))(keys, env_params)
    return jnp.sum(env_params.dags.size[env_params.arrivals.dag[state.episode.arrivals]], axis=1)


def rollout(
    env: CECEnv,
    env_params: EnvParams,
    *,
    apply: Apply,
    params: Any,
    keys: chex.PRNGKey,
    measuring: MeasureConfig = STANDARD,
) -> Episodes:
    """Play one episode per key to its end under the policy `apply` with its parameters.

    Each of the (episodes,) keys draws an episode and the policy's random numbers in it. `measuring` has the numbers
    that the measures depend on.

    Raises:
        ValueError: see `env.check_params`.
    """
    env_params = check_params(env.config, env_params)
    return _rollout(env, env_params, apply=apply, params=params, keys=keys, measuring=measuring)


@functools.partial(jax.jit, static_argnames=("env", "apply"))
def _rollout(
    env: CECEnv, env_params: EnvParams, *, apply: Apply, params: Any, keys: chex.PRNGKey, measuring: MeasureConfig
) -> Episodes:
    def decide(observation: Observation, state: EnvState, key: chex.PRNGKey) -> Action:
        return apply(params, observation, known_world(state, env_params), key)

    return play(env, env_params, decide=jax.vmap(decide), keys=keys, measuring=measuring)


def play(
    env: CECEnv, env_params: EnvParams, *, decide: Decide, keys: chex.PRNGKey, measuring: MeasureConfig = STANDARD
) -> Episodes:
    """Play one episode per key to its end, with actions that may depend on the whole state.

    `rollout` calls this with a policy that sees the known world only. It is meant to be called within `jax.jit`. Every
    episode ends: after MOST_POSTPONED x M x N steps nothing is postponed any more.

    `decide` makes one action for each environment from observations, states and keys, (episodes, ...) each. The keys,
    (episodes,), are those of `rollout`, and so is `measuring`.
    """
    observation, state = jax.vmap(env.reset_env, in_axes=(0, None))(keys, env_params)
    start = dict.fromkeys(COUNTS, jnp.zeros(keys.shape[0], jnp.int32)) | {"act": jnp.zeros(keys.shape[0])}
    most = env.config.num_services * env.config.max_microservices

    def step(carry: Carry) -> Carry:
        observation, before, measured, work, index = carry
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
        action = never_postponed_late(env, decide(observation, before, step_keys), index)
        source = jnp.argmax(observation.service.source, axis=-1)
        observation, state, _, _, info = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))(
            step_keys, before, action, env_params
        )
        counted = {name: info[name] for name in ("postponed", "redirected", "invalid")}
        counted |= {"decisions": info["decided"], "moved": info["decided"] & (info["host"] != source)}
        counts = {name: measured[name] + happened.astype(jnp.int32) for name, happened in counted.items()}
        measured = counts | {"act": measured["act"] + info["act"], "merges": info["merges"]}
        work = work.plus(jax.vmap(decision_work, in_axes=(0, 0, None))(before, info, env_params))
        return observation, state, measured, work, index + 1

    _, state, measured, work, _ = jax.lax.while_loop(
        lambda carry: any_undecided(carry[1]) & (carry[-1] < (MOST_POSTPONED + 1) * most),
        step,
        (observation, state, start, Total.of_nothing(keys.shape), jnp.int32(0)),
    )
    measures = jax.vmap(functools.partial(episode_measures, config=measuring), in_axes=(0, 0, None))(
        state, work.sum, env_params
    )
    drawn = {"topology": state.episode.topology, "arrivals": state.episode.arrivals}
    return Episodes(**measured, **measures._asdict(), host=state.host, decided_at=state.ready, **drawn)


def never_postponed_late(env: CECEnv, action: Action, step: chex.Array) -> Action:
    """The action, which postpones nothing from step MOST_POSTPONED x M x N on, so that every episode ends."""
    if action.postpone is None:
        return action
    late = step >= MOST_POSTPONED * env.config.num_services * env.config.max_microservices
    return action.replace(postpone=jnp.where(late, 0.0, action.postpone))


def _checked(name: str, episodes: Episodes) -> Episodes:
    """The episodes of a policy, unless one of its actions had a number that is not finite."""
    steps = int(episodes.decisions.sum() + episodes.postponed.sum())
    check_finite(name, invalid=int(episodes.invalid.sum()), steps=steps)
    return episodes


def check_finite(name: str, *, invalid: int, steps: int) -> None:
    """Refuse a policy of which `invalid` actions, of those of `steps` steps, have a number that is not finite.

    Raises:
        ValueError: there is one; the message names the policy and the number of them.
    """
    if invalid:
        raise ValueError(
            f"policy {name}: {invalid} of its {steps} actions have a number that is not finite (NaN or infinite); every"
            " host, bandwidth, hold and postponement must be finite"
        )


def timed_rollout(
    env: CECEnv, env_params: EnvParams, contender: Contender, keys: chex.PRNGKey, *, measuring: MeasureConfig = STANDARD
) -> Result:
    """`Contender.play`, with the time it took once compiled."""
    arguments = {"params": contender.params, "keys": keys, "measuring": measuring}
    env_params = check_params(env.config, env_params)
    compiled = _rollout.lower(env, env_params, apply=contender.apply, **arguments).compile()
    begin = time.perf_counter()
    episodes = jax.tree.map(np.asarray, compiled(env_params, **arguments))
    return Result(_checked(contender.name, episodes), time.perf_counter() - begin)
