"""What is seen in random episodes against plain Python: paths ahead, completion times expected, backlogs."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from episodes import SMALL, STEPS, random_actions, rollout

from jaxcec.scenarios.scenario import make_env

V = SMALL.num_nodes


@pytest.fixture(scope="module")
def played():
    """The banks, an episode's draws, and what was seen before each decision, and its record."""
    env, params = make_env(SMALL, "train")
    key = jax.random.key(7)
    _, state = env.reset(key, params)
    seen, info, _ = rollout(env, params, state, random_actions(env, key, (STEPS,)))
    return jax.tree.map(np.asarray, (params, state.episode, seen, info))


def decisions(played):
    """Each decision with what came before it, in plain Python."""
    params, drawn, seen, info = played
    dags = params.dags
    finish, host, busy_until = {}, {}, np.zeros(2 * V)
    for k in range(STEPS):
        if not info["decided"][k]:
            return
        i, j = int(info["service"][k]), int(info["microservice"][k])
        dag = params.arrivals.dag[drawn.arrivals, i]
        size = dags.size[dag]
        preds = dags.preds[dag][:size, :size]
        yield SimpleNamespace(
            seen=jax.tree.map(lambda x, k=k: x[k], seen),
            now=float(info["time"][k]),
            release=float(drawn.next_ready[i]),
            microservice=j,
            preds=preds,
            rank=ranks(preds, dags.load[dag]),
            data=dags.data[dag],
            bottleneck=params.network.bottleneck[drawn.topology],
            speed=params.network.speed[drawn.topology],
            finish={m: t for (s, m), t in finish.items() if s == i},
            host={m: h for (s, m), h in host.items() if s == i},
            busy_until=busy_until.copy(),
        )
        finish[i, j], host[i, j] = float(info["finish"][k]), int(info["host"][k])
        busy_until[host[i, j]] = max(busy_until[host[i, j]], finish[i, j])


def ranks(preds, load):
    """Mcycles on the heaviest path from each microservice to an exit."""

    def rank(j):
        return float(load[j]) + max((rank(k) for k in range(len(preds)) if preds[k, j]), default=0.0)

    return [rank(j) for j in range(len(preds))]


def path_ahead(d):
    """The best move of the heaviest successor's input, with its other predecessors' parts, and the path from there."""
    behind = [k for k in range(len(d.preds)) if d.preds[k, d.microservice]]
    if not behind:
        return [0.0] * V
    heaviest = max(behind, key=lambda k: d.rank[k])
    part = d.data[heaviest] / d.preds[heaviest].sum()
    elsewhere = np.zeros(V)
    for sibling, host in d.host.items():
        if d.preds[heaviest, sibling]:
            elsewhere[host % V] += part
    ways = np.zeros((V, V))
    for here in range(V):
        for there in range(V):
            moved = max(part / d.bottleneck[here, there], *(elsewhere / d.bottleneck[:, there]))
            ways[here, there] = moved + d.rank[heaviest] / d.speed[there]
    return ways.min(axis=1)


def expected(d):
    """Time left until the longest path of what is undecided ends at the nodes' mean speed, or what is decided does."""
    ends = list(d.finish.values())
    for j in range(len(d.preds)):
        if j not in d.finish:
            ready = max([d.release, *(t for k, t in d.finish.items() if d.preds[j, k])])
            ends.append(ready + d.rank[j] / d.speed[:V].mean())
    return max(ends) - d.now


def test_what_lies_ahead_of_a_microservice(played):
    for d in decisions(played):
        np.testing.assert_allclose(d.seen.nodes.ahead, path_ahead(d), rtol=1e-5)
        np.testing.assert_allclose(d.seen.service.expected, expected(d), rtol=1e-4, atol=1e-3)


def test_backlogs_end_with_the_last_reservation(played):
    for d in decisions(played):
        np.testing.assert_allclose(
            d.seen.nodes.backlog, np.maximum(d.busy_until[:V] - d.now, 0.0), rtol=1e-5, atol=1e-3
        )


def test_columns_without_a_link_show_nothing(played):
    seen = played[2].links
    padding = seen.bandwidth == 0.0
    assert padding.any() and not padding.all()
    for what in (seen.free, seen.load, seen.backlog):
        assert not what[padding].any()
