"""Reward of one decision, s. The twin's reward (Eq. 17) needs the learned model and belongs to `jaxcec.agents`."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxcec.env.dag import Decision, expected_completion
from jaxcec.env.indexing import take
from jaxcec.env.types import EnvParams, EnvState, RewardKind


def decision_reward(
    kind: RewardKind, decision: Decision, *, before: EnvState, after: EnvState, until: chex.Array, params: EnvParams
) -> chex.Array:
    """Reward of a decision, () f32 s; 0 unless it is active. Those of a postponed decision and of its booking add up.

    Args:
        kind: `act`: minus the increase of the service's completion time TT_i, which sums over an episode to -M x ACT.
            `expected-act`: minus the increase of its expected completion time (`dag.expected_completion`), which sums
            to -M x ACT plus the expectations at the releases, on which no decision has an influence; a decision that
            delays the longest path is charged at once. `ready-to-finish`: minus the time from the microservice's
            ready time to its finish (Eq. 14).
        decision: the decision that was taken.
        before: state in which it was taken.
        after: state after it was committed.
        until: () s, FT of the microservice, or the time to which its decision was postponed.
        params: the banks.
    """
    i = decision.service
    if kind == "act":
        reward = take(before.episode.completion, i) - take(after.episode.completion, i)
    elif kind == "expected-act":
        rank, speed = take(params.dags.rank, decision.dag), take(params.network.speed, before.episode.topology)

        def expected(state: EnvState, pending: chex.Array, ready: chex.Array) -> chex.Array:
            return expected_completion(
                pending, ready, rank=rank, speed=speed, release=decision.release, completion=state.episode.completion[i]
            )

        reward = expected(before, decision.pending, decision.ready) - expected(after, after.pending[i], after.ready[i])
    else:
        reward = decision.time - until
    return jnp.where(decision.active, reward, 0.0)
