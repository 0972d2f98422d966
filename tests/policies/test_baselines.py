"""Baseline rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS

from jaxcec.env import Action, build_instance
from jaxcec.policies import (
    BASELINES,
    TRAFFIC_PRICE,
    earliest_finish,
    greedy,
    local_device,
    local_node,
    predicted_finish,
    priced_earliest_finish,
    priced_predicted_finish,
    random_node,
    srpt,
)
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
V = SMALL.num_nodes

# Two nodes and a link of 10 Mbit/s. Service 0 sends 1000 Mbit to node 1 and so occupies the link for 100 s.
CONTENTION = {
    "links": [(0, 1, 10)],
    "node_speed": [10, 100],
    "device_speed": [1, 1],
    "capacity": [[1, 1], [1, 1]],
    "services": [
        {"release": 0, "source": 0, "preds": [[]], "load": [100], "data": [1000], "demand": [[1, 1]]},
        {"release": 1, "source": 0, "preds": [[]], "load": [100], "data": [10], "demand": [[1, 1]]},
    ],
}


@pytest.fixture(scope="module")
def episodes():
    """Random episodes under EFT with background load, and at each decision the result of every alternative.

    Returns:
        Observations, EFT's node (decisions,), and the finish on each edge node (decisions, V).
    """
    env, params = make_env(SMALL, "train")
    every_node = Action(jnp.arange(V, dtype=jnp.int32), jnp.ones(V, jnp.float32), jnp.zeros(V, jnp.float32))

    def step(carry, _):
        seen, state = carry
        chosen = earliest_finish(seen, KEY).host
        following, state, _, _, info = jax.vmap(env.step_env, in_axes=(None, None, 0, None))(
            KEY, state, every_node, params
        )
        carry = jax.tree.map(lambda x: x[chosen], (following, state))
        return carry, (seen, chosen, info["finish"] - info["time"], info["decided"][0])

    @jax.jit
    @jax.vmap
    def run(key):
        return jax.lax.scan(step, env.reset_env(key, params), length=STEPS)[1]

    *outcome, decided = jax.tree.map(np.asarray, run(jax.random.split(KEY, 8)))
    return jax.tree.map(lambda x: x[decided], outcome)


@pytest.fixture(scope="module")
def seen(episodes):
    return episodes[0]


def decide(policy, seen) -> Action:
    keys = jax.random.split(KEY, len(seen.service.age))
    return jax.vmap(policy)(seen, keys)


@pytest.mark.parametrize("name", BASELINES)
def test_all_rules_send_at_full_rate_without_hold_to_a_valid_host(name, seen):
    action = decide(BASELINES[name], seen)
    assert (action.bandwidth == 1).all() and (action.hold == 0).all()
    assert ((action.host >= 0) & (action.host < 2 * V)).all()
    assert (action.host.dtype, action.bandwidth.dtype, action.hold.dtype) == (jnp.int32, jnp.float32, jnp.float32)


def test_le_always_chooses_the_end_device_of_the_source(seen):
    np.testing.assert_array_equal(decide(local_device, seen).host, V + seen.service.source.argmax(axis=-1))


def test_local_always_chooses_the_source(seen):
    np.testing.assert_array_equal(decide(local_node, seen).host, seen.service.source.argmax(axis=-1))


def test_greedy_adds_wait_nominal_transfer_and_execution(seen):
    nodes = seen.nodes
    np.testing.assert_array_equal(
        decide(greedy, seen).host, (nodes.wait + nodes.transfer + nodes.execution).argmin(axis=-1)
    )


def test_greedy_ignores_link_contention_and_eft_does_not():
    env, params = build_instance(**CONTENTION)
    _, state = env.reset(KEY)
    first = Action(host=jnp.int32(1), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))
    seen, *_ = env.step_env(KEY, state, first, params)
    # At 1 s: node 0 takes 100 / 10 = 10 s; node 1 nominally 10 / 10 + 100 / 100 = 2 s, but the link is busy until 100.
    assert (seen.nodes.wait + seen.nodes.transfer + seen.nodes.execution).tolist() == [10, 2]
    assert seen.nodes.finish.tolist() == [10, 99 + 1 + 1]
    assert greedy(seen, KEY).host == 1
    assert earliest_finish(seen, KEY).host == 0


def test_greedy_accounts_for_the_wait_at_the_node():
    services = [service | {"data": [0], "load": [10_000], "release": 0} for service in CONTENTION["services"]]
    env, params = build_instance(**CONTENTION | {"services": services})
    seen, state = env.reset(KEY)
    assert greedy(seen, KEY).host == 1
    seen, *_ = env.step_env(KEY, state, greedy(seen, KEY), params)
    # Node 0 takes 10000 / 10 = 1000 s. Node 1 is busy for 100 s, then takes 10000 / 100 = 100 s.
    assert seen.nodes.wait.tolist() == [0, 100]
    assert (seen.nodes.wait + seen.nodes.transfer + seen.nodes.execution).tolist() == [1000, 200]
    assert greedy(seen, KEY).host == 1


def test_eft_takes_the_earliest_finish_of_all_edge_nodes(episodes):
    """By brute force: each edge node is tried at every decision."""
    seen, chosen, finish = episodes
    np.testing.assert_allclose(seen.nodes.finish, finish, rtol=1e-4)
    assert (finish[np.arange(len(chosen)), chosen] <= finish.min(axis=-1) * (1 + 1e-4)).all()
    assert set(chosen.tolist()) == set(range(V))


def test_rules_minimise_their_documented_costs(seen):
    finish, ahead, price = seen.nodes.finish, seen.nodes.ahead, TRAFFIC_PRICE * seen.nodes.traffic
    costs = {
        earliest_finish: finish,
        priced_earliest_finish: finish + price,
        predicted_finish: finish + ahead,
        priced_predicted_finish: finish + ahead + price,
    }
    for rule, cost in costs.items():
        np.testing.assert_array_equal(decide(rule, seen).host, cost.argmin(axis=-1))


def test_peft_accounts_for_the_remaining_path_and_its_price_for_the_links():
    service = {"release": 0, "source": 0, "preds": [[], [0]], "load": [400, 4000], "data": [70, 50]}
    services = [service | {"demand": [[1, 1], [1, 1]]}]
    env, params = build_instance(**CONTENTION | {"node_speed": [40, 100], "services": services})
    seen, _ = env.reset(KEY, params)
    assert seen.nodes.finish.tolist() == [400 / 40, 70 / 10 + 400 / 100]
    assert seen.nodes.ahead.tolist() == [50 / 10 + 4000 / 100, 4000 / 100]
    assert seen.nodes.traffic.tolist() == [0, 7]
    hosts = [int(rule(seen, KEY).host) for rule in (earliest_finish, predicted_finish, priced_predicted_finish)]
    assert hosts == [0, 1, 0]


def test_random_is_uniform_over_the_edge_nodes(seen):
    one = jax.tree.map(lambda x: x[0], seen)
    draws = 4000
    hosts = jax.vmap(lambda key: random_node(one, key).host)(jax.random.split(KEY, draws))
    counts = np.bincount(np.asarray(hosts), minlength=V)
    assert counts.sum() == counts[:V].sum() == draws
    deviation = np.abs(counts[:V] - draws / V) / np.sqrt(draws / V * (1 - 1 / V))
    assert deviation.max() < 4, counts


def test_srpt_gives_way_to_shorter_services_while_others_delay_it(seen):
    """It is the rule that the price of traffic belongs to, put off where five services are shorter."""
    priced = decide(priced_earliest_finish, seen)
    free = decide(srpt, seen.replace(service=seen.service.replace(shorter=jnp.full_like(seen.service.shorter, 4.0))))
    np.testing.assert_array_equal(free.host, priced.host)
    assert not free.postpone.any()
    nodes = seen.nodes
    delay = np.asarray((nodes.finish - nodes.execution - nodes.transfer)[jnp.arange(len(priced.host)), priced.host])
    many = decide(srpt, seen.replace(service=seen.service.replace(shorter=jnp.full_like(seen.service.shorter, 9.0))))
    np.testing.assert_array_equal(many.postpone > 0, delay > 0.3)
    assert (delay > 0.3).any() and (delay < 0.3).any()
    np.testing.assert_allclose(many.postpone[delay > 0.3], 0.45 + (delay[delay > 0.3] - 0.3), rtol=1e-4)
