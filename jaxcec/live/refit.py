"""What is learned from event logs: the twin of a policy, and the lateness of finishes that the mechanism leaves out.

Both are fitted to the earlier decisions. The last quarter decides whether they foresee better than before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
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
    """A twin, and what is added to the mechanism, before and after they were fitted to a log."""

    policy: TrainedPolicy  # with the twin after
    lateness: Lateness
    fitted: int  # decisions that were learned from
    held_out: int
    mechanism: Score  # of the simulator's exact mechanism, as the decisions recorded it
    corrected_before: Score  # of the mechanism and the lateness that was added to it before
    corrected: Score
    before: Score
    after: Score

    @property
    def better(self) -> bool:
        """Whether finishes are foreseen with a smaller mean error than before, and waits with a higher likelihood."""
        assert self.before.likelihood is not None and self.after.likelihood is not None
        return self.after.error.mean < self.before.error.mean and self.after.likelihood > self.before.likelihood

    @property
    def corrects(self) -> bool:
        """Whether finishes are foreseen with a smaller mean error than with the lateness before, and without any."""
        return self.corrected.error.mean < min(self.corrected_before.error.mean, self.mechanism.error.mean)


def refit(
    policy: TrainedPolicy,
    logs: Sequence[tuple[Site, Sequence[events.Event]]],
    *,
    lateness: Lateness | None = None,
    seed: int = 0,
) -> Refit:
    """Fit the twin of a policy, and a lateness, to the earlier decisions of logs, and judge them on the later ones.

    Args:
        policy: of dtdrlmo.
        logs: the site of each log, and what happened there; in the order in which they were written. The sites have
            equally many nodes.
        lateness: that was learned before; by default none.
        seed: of the decisions that are drawn for each gradient step.

    Raises:
        ValueError: the policy has no twin, or chooses rates and holds, or too few decisions have finished.
    """
    _check_policy(policy)
    first, middle, last = _divided(
        _in_sequence([executed_decisions(site, happened, policy, most=MOST) for site, happened in logs])
    )
    if min(len(first), len(middle), len(last)) < LEAST:
        raise ValueError(
            f"log: got {len(first)}, {len(middle)} and {len(last)} finished decisions in the three parts; "
            f"must be at least {LEAST} in each"
        )
    new = _fitted(policy, _stacked(first).outcome, _stacked(middle).outcome, seed)
    sites = [site for site, _ in logs]
    lateness_before = lateness or no_lateness(sites[0].config.num_nodes)
    learned = _learned_lateness(_stacked(first + middle), sites)
    found = _judged(_stacked(last), policies=(policy, new), lateness=(lateness_before, learned))
    return Refit(new, learned, fitted=len(first) + len(middle), held_out=len(last), **found)


def _learned_lateness(executed: Executed, sites: list[Site]) -> Lateness:
    """The lateness; that of each node by itself only if all logs are of one site, and its nodes therefore the same."""
    wanted, num_nodes = executed.finish - executed.booked, sites[0].config.num_nodes
    one_site = all(site == sites[0] for site in sites)
    return fitted_lateness(executed.features, executed.host, wanted, num_nodes=num_nodes, by_node=one_site)


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


def _judged(
    held_out: Executed, *, policies: tuple[TrainedPolicy, TrainedPolicy], lateness: tuple[Lateness, Lateness]
) -> dict[str, Score]:
    """The scores of `Refit`, by name; of policies and lateness before and after."""
    of_old, of_new = (_predicted(policy, held_out) for policy in policies)
    later = [lateness_of(each, held_out.features, held_out.host) for each in lateness]
    finishes = {
        "mechanism": held_out.booked,
        "corrected_before": held_out.booked + later[0],
        "corrected": held_out.booked + later[1],
        "before": of_old[0],
        "after": of_new[0],
    }
    errors = {name: np.abs(finish - held_out.finish) for name, finish in finishes.items()}
    likelihoods = {"before": of_old[1], "after": of_new[1]}
    intervals = bootstrap_means(errors)
    return {name: Score(intervals[name], float(np.median(errors[name])), likelihoods.get(name)) for name in errors}


def _predicted(policy: TrainedPolicy, executed: Executed) -> tuple[np.ndarray, float]:
    """(n,) s, the finishes that a twin deems most likely, and its likelihood: see `Score`."""
    model, twin = TimingModel(policy.config.twin.hidden), policy.params.twin
    waits = executed.pace[:, None] * np.asarray(waits_of(model.apply(twin, executed.inputs)[0]))
    finishes = executed.unhindered + np.where(executed.crosses, waits[:, 0], 0.0) + waits[:, 1]
    return finishes, -float(timing_loss(model, twin, executed.outcome)[0])
