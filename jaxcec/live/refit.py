"""What is learned from event logs: the twin of a policy, and the lateness of finishes that the mechanism leaves out.

Both are fitted to the earlier decisions. The last quarter decides whether they foresee better than before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.agents import AgentConfig, AgentState, TrainedPolicy, learner_for
from jaxcec.agents.twin import Outcome, TimingModel, timing_loss, waits_of
from jaxcec.evaluation.statistics import Interval, bootstrap_means
from jaxcec.live import events
from jaxcec.live.experience import Executed, executed_decisions
from jaxcec.live.lateness import Lateness, fitted_lateness, lateness_of, no_lateness
from jaxcec.live.site import Site

MOST = 4000  # decisions of a log that are used, the last ones
LEAST = 10  # decisions that are needed in each part
_SHARES = (0.55, 0.2, 0.25)  # parts of the logs: to learn from, to tell when to stop, and to judge on
_STOPS = 50  # times that the twin is looked at while it learns
_STEPS = 16  # gradient steps from one to the next
_SLOWER = 0.1  # times the learning rate with which the policy was trained
_BATCH = 256  # decisions drawn for each of them


class Score(NamedTuple):
    """How well finishes were predicted, of decisions that were not learned from."""

    error: Interval  # s, mean absolute error, with its 95 % bootstrap interval over decisions
    median: float  # s, of the absolute errors
    likelihood: float | None = None  # mean log likelihood of the logarithms of the waits, but for a constant


class Refit(NamedTuple):
    """A lateness and a twin that were fitted to logs, and how well they foresee, next to what was there before."""

    policy: TrainedPolicy  # with the twin after
    lateness: Lateness
    site: Site | None  # whose nodes the lateness has terms of; None if the logs are of several sites
    chosen: str  # "none", "before" or "refitted": the lateness that gives the mechanism the least mean error
    fitted: int  # decisions that were learned from
    held_out: int
    mechanism: Score  # of the simulator's exact mechanism, as the decisions recorded it
    corrected_before: Score | None  # of the mechanism with the lateness before; None if there was none
    corrected: Score  # of the mechanism with the new lateness
    before: Score  # of the twin before
    after: Score

    @property
    def better(self) -> bool:
        """Whether the mean error of the twin's finishes is smaller than before, and the likelihood of waits higher."""
        assert self.before.likelihood is not None and self.after.likelihood is not None
        return self.after.error.mean < self.before.error.mean and self.after.likelihood > self.before.likelihood


def refit(
    policy: TrainedPolicy,
    logs: Sequence[tuple[Site, Sequence[events.Event]]],
    *,
    lateness: Lateness | None = None,
    seed: int = 0,
) -> Refit:
    """Fit a lateness, and the twin of a policy, to the earlier decisions of logs, and judge them on the later ones.

    Args:
        policy: of dtdrlmo.
        logs: the site of each log, and what happened there; in the order in which they were written.
        lateness: that was learned before; by default none.
        seed: of the decisions that are drawn for each gradient step.

    Raises:
        ValueError: the policy has no twin, or chooses rates and holds, or too few decisions have finished.
    """
    _check_policy(policy)
    of_logs = (executed_decisions(*log, policy, most=MOST) for log in logs)
    first, middle, last = parts = _divided(_in_sequence(of_logs))
    if min(map(len, parts)) < LEAST:
        raise ValueError(
            f"log: got {len(first)}, {len(middle)} and {len(last)} finished decisions in the three parts; "
            f"must be at least {LEAST} in each"
        )
    learned, site = _learned_lateness(_stacked(first + middle), [site for site, _ in logs])
    fitted = _fitted(policy, _stacked(first).outcome, _stacked(middle).outcome, seed)
    before = {} if lateness is None else {"before": lateness}
    known = {"none": no_lateness(len(learned.pause))} | before | {"refitted": learned}
    scores = _scores_of_mechanism(_stacked(last), known)
    twins = _scores_of_twins(_stacked(last), {"before": policy, "after": fitted})
    return Refit(
        policy=fitted,
        lateness=learned,
        site=site,
        chosen=min(known, key=lambda name: scores[name].error.mean),
        fitted=len(first) + len(middle),
        held_out=len(last),
        mechanism=scores["none"],
        corrected_before=scores.get("before"),
        corrected=scores["refitted"],
        **twins,
    )


def _learned_lateness(executed: Executed, sites: list[Site]) -> tuple[Lateness, Site | None]:
    """The lateness, and the site if there is but one, and its nodes therefore have terms of their own."""
    late, most = executed.finish - executed.booked, max(site.config.num_nodes for site in sites)
    site = sites[0] if all(site == sites[0] for site in sites) else None
    return fitted_lateness(executed.features, executed.node, late, num_nodes=most, by_node=site is not None), site


def _check_policy(policy: TrainedPolicy) -> None:
    if policy.params.twin is None:
        raise ValueError(f"policy: got {policy.config.algorithm}, which has no twin; must be dtdrlmo")
    if policy.config.learn_flow:
        raise ValueError("policy: got one with learn_flow; must be without: a log does not tell holds from waits")


def _in_sequence(logs: Iterable[Iterable[Executed]]) -> list[Executed]:
    """The decisions of all logs, with times as if each log had begun when the one before ended.

    Logs of a lab have clocks that run fast, and so seem to overlap.
    """
    rows, end = list[Executed](), 0.0
    for log in map(list, logs):
        later = end - min((row.decided for row in log), default=0.0)
        rows += [row._replace(decided=row.decided + later) for row in log]
        end = max((row.decided + row.finish for row in rows), default=0.0)
    return rows


def _divided(rows: list[Executed]) -> list[list[Executed]]:
    """The parts, by time: what is in one has finished before any decision in the next."""
    if not rows:
        return [[] for _ in _SHARES]
    begins = np.quantile([row.decided for row in rows], np.cumsum([0.0, *_SHARES[:-1]]))
    ends = [*begins[1:], np.inf]
    return [
        [row for row in rows if begin <= row.decided and row.decided + row.finish <= end]
        for begin, end in zip(begins, ends, strict=True)
    ]


def _stacked(rows: list[Executed]) -> Executed:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _fitted(policy: TrainedPolicy, first: Outcome, middle: Outcome, seed: int) -> TrainedPolicy:
    """The policy with its twin fitted to the first part; the middle one says when to stop.

    A few hundred decisions are soon learned by heart, and that does not help with others.
    """
    twin = policy.config.twin
    config = policy.config.replace(twin=twin.replace(learning_rate=_SLOWER * twin.learning_rate))
    agent = learner_for(config).init(policy.params)
    fitted = _best_twin(config, agent, first, middle, key=jax.random.key(seed))
    return dataclasses.replace(
        policy,
        params=policy.params.replace(twin=jax.device_get(fitted)),
        origin=f"{policy.origin}; twin refitted to {len(first.weight) + len(middle.weight)} measured decisions",
    )


@jax.jit
def _best_twin(
    config: AgentConfig, agent: AgentState, outcomes: Outcome, judging: Outcome, *, key: chex.PRNGKey
) -> chex.ArrayTree:
    """The twin, of those on the way, that predicts the waits of the (m, ...) judging outcomes with the least error.

    By their likelihood, twins were chosen that are off by more, but less sure of it.

    It learns from the (n, ...) outcomes, in steps of batches drawn from them.
    """
    learner, model, number = learner_for(config), TimingModel(config.twin.hidden), outcomes.weight.shape[0]

    def one_step(agent: AgentState, key: chex.PRNGKey) -> tuple[AgentState, None]:
        drawn = jax.random.randint(key, (_BATCH,), 0, number)
        return learner.learn_outcomes(agent, jax.tree.map(lambda x: x[drawn], outcomes))[0], None

    def some_steps(agent: AgentState, keys: chex.PRNGKey) -> tuple[AgentState, tuple[chex.ArrayTree, chex.Array]]:
        error = timing_loss(model, agent.params.twin, judging)[1]["twin_error"]
        return jax.lax.scan(one_step, agent, keys)[0], (agent.params.twin, error)

    _, (twins, errors) = jax.lax.scan(some_steps, agent, jax.random.split(key, (_STOPS, _STEPS)))
    return jax.tree.map(lambda x: x[jnp.nanargmin(errors)], twins)


def _scores_of_mechanism(held_out: Executed, known: Mapping[str, Lateness]) -> dict[str, Score]:
    """Of the mechanism with each lateness."""
    late = {name: np.asarray(lateness_of(each, held_out.features, held_out.node)) for name, each in known.items()}
    errors = {name: np.abs(held_out.booked + each - held_out.finish) for name, each in late.items()}
    intervals = bootstrap_means(errors)
    return {name: Score(intervals[name], float(np.median(errors[name]))) for name in known}


def _scores_of_twins(held_out: Executed, policies: Mapping[str, TrainedPolicy]) -> dict[str, Score]:
    """Of the twin of each policy."""
    predictions = {name: _predicted(policy, held_out) for name, policy in policies.items()}
    errors = {name: np.abs(finish - held_out.finish) for name, (finish, _) in predictions.items()}
    intervals = bootstrap_means(errors)
    return {name: Score(intervals[name], float(np.median(errors[name])), predictions[name][1]) for name in policies}


def _predicted(policy: TrainedPolicy, executed: Executed) -> tuple[np.ndarray, float]:
    """(n,) s, the finishes that a twin deems most likely, and its likelihood: see `Score`."""
    model, twin = TimingModel(policy.config.twin.hidden), policy.params.twin
    waits = executed.pace[:, None] * np.asarray(waits_of(model.apply(twin, executed.inputs)[0]))
    finishes = executed.unhindered + np.where(executed.crosses, waits[:, 0], 0.0) + waits[:, 1]
    return finishes, -float(timing_loss(model, twin, executed.outcome)[0])
