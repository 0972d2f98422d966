"""The learned twin of a policy, fitted further to what an event log has measured.

It learns from the earlier decisions of the log. The later ones decide whether it foresees better than before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import numpy as np

from jaxcec.agents import AgentConfig, AgentState, TrainedPolicy, learner_for
from jaxcec.agents.twin import Outcome, TimingModel, timing_loss, waits_of
from jaxcec.evaluation.statistics import Interval, bootstrap_means
from jaxcec.live import events
from jaxcec.live.experience import Executed, executed_decisions
from jaxcec.live.site import Site

MOST = 4000  # decisions of a log that are used, the last ones
LEAST = 20  # decisions that are needed in each of the two parts
_HELD_OUT = 0.25  # share of a log's decisions, the last ones, that are not learned from
_STEPS = 400  # gradient steps
_BATCH = 256  # decisions drawn for each of them


class Score(NamedTuple):
    """How well finishes were predicted, of decisions that were not learned from."""

    error: Interval  # s, mean absolute error, with its 95 % bootstrap interval over decisions
    median: float  # s, of the absolute errors
    likelihood: float | None = None  # mean log likelihood of the logarithms of the waits, but for a constant


class Refit(NamedTuple):
    """A twin before and after it was fitted to a log."""

    policy: TrainedPolicy  # with the twin after
    fitted: int  # decisions that it learned from
    held_out: int
    mechanism: Score  # of the simulator's exact mechanism, as the decisions recorded it
    before: Score
    after: Score

    @property
    def better(self) -> bool:
        """Whether the twin foresees better after: the finishes by their mean error, and the waits by their likelihood."""
        assert self.before.likelihood is not None and self.after.likelihood is not None
        return self.after.error.mean < self.before.error.mean and self.after.likelihood > self.before.likelihood


def refit(policy: TrainedPolicy, logs: Sequence[tuple[Site, Sequence[events.Event]]], *, seed: int = 0) -> Refit:
    """Fit the twin of a policy to the earlier decisions of each log, and judge it on the later ones.

    Args:
        policy: of dtdrlmo.
        logs: the site of each log, and what happened there.
        seed: of the decisions that are drawn for each gradient step.

    Raises:
        ValueError: the policy has no twin, or chooses rates and holds, or too few decisions have finished.
    """
    _check_policy(policy)
    parts = [_divided([*executed_decisions(site, happened, policy, most=MOST)]) for site, happened in logs]
    earlier, later = ([row for part in parts for row in part[i]] for i in (0, 1))
    if min(len(earlier), len(later)) < LEAST:
        raise ValueError(
            f"log: got {len(earlier)} finished decisions to learn from and {len(later)} later ones; "
            f"must be at least {LEAST} of each"
        )
    new = _fitted(policy, _stacked(earlier).outcome, seed)
    return _judged(policy, new, _stacked(later), fitted=len(earlier))


def _check_policy(policy: TrainedPolicy) -> None:
    if policy.params.twin is None:
        raise ValueError(f"policy: got {policy.config.algorithm}, which has no twin; must be dtdrlmo")
    if policy.config.learn_flow:
        raise ValueError("policy: got one with learn_flow; must be without: a log does not tell holds from waits")


def _divided(rows: list[Executed]) -> tuple[list[Executed], list[Executed]]:
    """The decisions to learn from, and the later ones that are held out: the former have all finished before these."""
    if not rows:
        return [], []
    begin = np.quantile([row.decided for row in rows], 1.0 - _HELD_OUT)
    return [row for row in rows if row.decided + row.finish <= begin], [row for row in rows if row.decided >= begin]


def _stacked(rows: list[Executed]) -> Executed:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _fitted(policy: TrainedPolicy, outcomes: Outcome, seed: int) -> TrainedPolicy:
    """The policy with its twin fitted further to (n, ...) outcomes."""
    agent = learner_for(policy.config).init(policy.params)
    agent = _learn(policy.config, agent, outcomes, jax.random.key(seed))
    number = len(outcomes.weight)
    return dataclasses.replace(
        policy,
        params=policy.params.replace(twin=jax.device_get(agent.params.twin)),
        origin=f"{policy.origin}; twin refitted to {number} measured decisions",
    )


@jax.jit
def _learn(config: AgentConfig, agent: AgentState, outcomes: Outcome, key: chex.PRNGKey) -> AgentState:
    learner, number = learner_for(config), outcomes.weight.shape[0]

    def one_step(agent: AgentState, key: chex.PRNGKey) -> tuple[AgentState, None]:
        drawn = jax.random.randint(key, (_BATCH,), 0, number)
        return learner.learn_outcomes(agent, jax.tree.map(lambda x: x[drawn], outcomes))[0], None

    return jax.lax.scan(one_step, agent, jax.random.split(key, _STEPS))[0]


def _judged(old: TrainedPolicy, new: TrainedPolicy, held_out: Executed, *, fitted: int) -> Refit:
    of_old, of_new = (_predicted(policy, held_out) for policy in (old, new))
    finishes = {"mechanism": held_out.booked, "before": of_old[0], "after": of_new[0]}
    errors = {name: np.abs(finish - held_out.finish) for name, finish in finishes.items()}
    likelihoods = {"mechanism": None, "before": of_old[1], "after": of_new[1]}
    intervals = bootstrap_means(errors)
    scores = {name: Score(intervals[name], float(np.median(errors[name])), likelihoods[name]) for name in errors}
    return Refit(new, fitted=fitted, held_out=len(held_out.finish), **scores)


def _predicted(policy: TrainedPolicy, executed: Executed) -> tuple[np.ndarray, float]:
    """(n,) s, the finishes that a twin deems most likely, and its likelihood: see `Score`."""
    model, twin = TimingModel(policy.config.twin.hidden), policy.params.twin
    waits = np.asarray(waits_of(model.apply(twin, executed.inputs)[0]))
    finishes = executed.unhindered + np.where(executed.crosses, waits[:, 0], 0.0) + waits[:, 1]
    return finishes, -float(timing_loss(model, twin, executed.outcome)[0])
