"""Observations of random episodes against plain Python: remaining paths, expected completion times, backlogs."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers.episodes import SMALL, random_actions, rollout

from jaxcec.scenarios import make_env

SCENARIO = dataclasses.replace(SMALL, num_services=3, max_microservices=16)
STEPS = SCENARIO.num_services * SCENARIO.max_microservices  # at least the length of an episode
V = SCENARIO.num_nodes


@pytest.fixture(scope="module")
def decisions():
    """Decisions of some random episodes: the observation, and the state of the system as plain Python computes it."""
    env, params = make_env(SCENARIO, "train")
    keys = jax.random.split(jax.random.key(0), 4)
    _, states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)
    actions = random_actions(env, keys[0], (len(keys), STEPS))
    seen, info, _ = jax.vmap(rollout, in_axes=(None, None, 0, 0))(env, params, states, actions)
    episodes = jax.tree.map(np.asarray, (states.episode, seen, info))
    params = jax.tree.map(np.asarray, params)
    each = [jax.tree.map(lambda x, e=e: x[e], episodes) for e in range(len(keys))]
    return [decision for episode in each for decision in decisions_of(params, *episode)]


def decisions_of(params, drawn, seen, info):
    """The decisions of an episode."""
    dags = params.dags
    finish, host, busy_until = {}, {}, np.zeros(2 * V)
    for k in range(int(info["decided"].sum())):
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


def heaviest_successor(d):
    """The successor with the heaviest path, or None for an exit."""
    successors = [k for k in range(len(d.preds)) if d.preds[k, d.microservice]]
    return max(successors, key=lambda k: d.rank[k], default=None)


def parts_elsewhere(d, successor):
    """Number of predecessors of a microservice that ran at each node or its end device."""
    count = np.zeros(V)
    for sibling, host in d.host.items():
        count[host % V] += d.preds[successor, sibling]
    return count


def path_ahead(d):
    """The best transfer of the heaviest successor's input, with the other predecessors' parts, and its path."""
    heaviest = heaviest_successor(d)
    if heaviest is None:
        return [0.0] * V
    part = d.data[heaviest] / d.preds[heaviest].sum()
    elsewhere = part * parts_elsewhere(d, heaviest)
    ways = np.zeros((V, V))
    for here in range(V):
        for there in range(V):
            moved = max(part / d.bottleneck[here, there], *(elsewhere / d.bottleneck[:, there]))
            ways[here, there] = moved + d.rank[heaviest] / d.speed[there]
    return ways.min(axis=1)


def expected(d):
    """Time until the longest undecided path ends at the nodes' mean speed, or the last decided microservice ends."""
    ends = list(d.finish.values())
    for j in range(len(d.preds)):
        if j not in d.finish:
            ready = max([d.release, *(t for k, t in d.finish.items() if d.preds[j, k])])
            ends.append(ready + d.rank[j] / d.speed[:V].mean())
    return max(ends) - d.now


def test_path_ahead_and_expected_completion(decisions):
    gathered = 0
    for d in decisions:
        np.testing.assert_allclose(d.seen.nodes.ahead, path_ahead(d), rtol=1e-5)
        np.testing.assert_allclose(d.seen.service.expected, expected(d), rtol=1e-4, atol=1e-3)
        gathered += heaviest_successor(d) is not None and parts_elsewhere(d, heaviest_successor(d)).any()
    assert gathered > 10


def test_backlogs_end_with_the_last_reservation(decisions):
    for d in decisions:
        left = np.maximum(d.busy_until[:V] - d.now, 0.0)
        np.testing.assert_allclose(d.seen.nodes.backlog, left, rtol=1e-5, atol=1e-3)


def test_padding_links_are_zero(decisions):
    for d in decisions:
        padding = d.seen.links.bandwidth == 0.0
        for values in (d.seen.links.free, d.seen.links.load, d.seen.links.backlog):
            assert not values[padding].any()
    assert any((d.seen.links.bandwidth == 0.0).any() for d in decisions)
