"""Rewards of one decision. The twin's (Eq. 17) needs the learned model and is `jaxcec.agents.twin`'s."""

from __future__ import annotations

import chex


def ready_to_finish(time: chex.Array, finish: chex.Array) -> chex.Array:
    """Eq. 14: minus the completion time of the microservice decided, counted from its ready time, s."""
    return time - finish


def act_increase(before: chex.Array, after: chex.Array) -> chex.Array:
    """Minus the increase of the service's completion time, s: sums over an episode to -M x ACT.

    Of its expected completion time (`dag.expected_completion`) it sums to -M x ACT plus what was expected at the
    releases, which no decision changes; and a decision that delays the longest path is charged at once.
    """
    return before - after
