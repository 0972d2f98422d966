"""Every measure against a plain recomputation from the exported schedule, and against what can be known beforehand."""

import dataclasses
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import plain_measures
from helpers.episodes import SMALL
from helpers.instances import random_wide_instance

from examples.own_reward import WEIGHTS, WeightedEnv
from jaxcec.env import Action, EnvConfig, build_instance
from jaxcec.evaluation import (
    Contender,
    MeasureConfig,
    Power,
    decision_energy,
    decision_work,
    episode_keys,
    record,
    save_schedule,
    service_bounds,
)
from jaxcec.evaluation.measures import Total, Work, episode_measures, jain
from jaxcec.policies import at_full_rate
from jaxcec.scenarios import make_env

EARLIEST, ANYWHERE, LATER = range(3)
KEYS = episode_keys(0, 40)
WIDE = EnvConfig(
    num_nodes=4, max_links=6, num_services=3, max_microservices=5, link_breakpoints=64, host_breakpoints=48
)
INSTANCES = 30
MEASURING = MeasureConfig(deadline=4.0, power=Power(device_busy=20.0, link=3.0))  # so that no part of energy is small


def decide(index, observation, _world, key) -> Action:
    """The earliest finish, or anything, at any rate and after any hold; or this, postponed now and then."""
    keys = jax.random.split(key, 5)
    num_nodes = observation.nodes.finish.size
    draw = [jax.random.uniform(each) for each in keys[:4]]
    anywhere = Action(
        host=jax.random.randint(keys[4], (), 0, 2 * num_nodes),
        bandwidth=0.05 + 0.95 * draw[0],
        hold=jnp.where(draw[1] < 0.5, 10.0 * draw[1], 0.0),
        postpone=jnp.where((index == LATER) & (draw[2] < 0.4), 20.0 * draw[3], 0.0),
    )
    earliest = at_full_rate(jnp.argmin(observation.nodes.finish).astype(jnp.int32))
    earliest = earliest.replace(postpone=jnp.float32(0.0))
    return jax.tree.map(lambda x, y: jnp.where(index == EARLIEST, x, y), earliest, anywhere)


def contender(index) -> Contender:
    return Contender(("earliest", "anywhere", "later")[index], decide, jnp.int32(index))


@pytest.fixture(scope="module")
def scenario():
    return make_env(dataclasses.replace(SMALL, duplex="full", latency=0.5), "test")


def check(env, params, keys, path):
    """Compare all measures of the episodes of some keys with what follows from their files."""
    for index in (EARLIEST, ANYWHERE, LATER):
        policy = contender(index)
        episodes = jax.tree.map(np.asarray, policy.play(env, params, keys, measuring=MEASURING))
        assert (episodes.postponed.sum() > 0) == (index == LATER)
        for n, key in enumerate(keys):
            save_schedule([record(env, params, policy, key, measuring=MEASURING)], path)
            content = json.loads(path.read_text())
            expected = plain_measures.measures(content, policy.name)
            of_file = content["policies"][policy.name]
            assert set(of_file["measures"]) == set(expected)
            for name, value in expected.items():
                assert of_file["measures"][name] == pytest.approx(value, rel=1e-4, abs=1e-9), name
                assert getattr(episodes, name)[n] == pytest.approx(value, rel=1e-4, abs=1e-9), name
            slowdowns = plain_measures.slowdowns(content, policy.name)
            np.testing.assert_allclose(of_file["slowdowns"], slowdowns, rtol=1e-4)
            np.testing.assert_allclose(episodes.slowdown[n], slowdowns, rtol=1e-4)
            completions = plain_measures.completions(content, policy.name)
            np.testing.assert_allclose(episodes.completion[n], completions, rtol=1e-4)


def test_measures_equal_a_plain_recomputation_in_a_scenario(scenario, tmp_path):
    check(*scenario, KEYS, tmp_path / "out.json")


def test_measures_equal_a_plain_recomputation_in_wide_instances(tmp_path):
    for seed in range(INSTANCES):
        env, params = build_instance(**random_wide_instance(random.Random(seed)), config=WIDE)
        check(env, params, KEYS[:1], tmp_path / "out.json")


def test_no_service_is_faster_than_its_bound(scenario):
    env, params = scenario
    decisions = 0
    for seed in range(1, 9):
        episodes = contender(seed % 2).play(env, params, episode_keys(seed, len(KEYS)))
        decisions += int(episodes.decisions.sum())
        assert float(episodes.slowdown.min()) >= 1.0 - 1e-5
    assert decisions > 4_000


def one_service(**changes):
    """A service of two microservices in a row on two nodes of 10 Mcycles/s with devices of 1 and 20 Mcycles/s."""
    service = {"release": 3, "source": 0, "preds": [[], [0]], "load": [100, 60], "data": [40, 20]}
    service |= {"demand": [[1, 1], [0.5, 1]]}
    instance = {"links": [(0, 1, 10)], "node_speed": [10, 10], "device_speed": [1, 20], "capacity": [[2, 2]] * 2}
    return build_instance(**instance | {"services": [service | changes]})


def there(host, _observation, _world, _key):
    return at_full_rate(host)


def always(host):
    return Contender("always", there, jnp.int32(host))


def test_the_bound_is_reached_on_the_end_device_of_another_node():
    env, params = one_service(data=[0, 0])
    episodes = always(3).play(env, params, KEYS[:1])
    assert episodes.slowdown.tolist() == [[1.0]] and episodes.completion.tolist() == [[8.0]]
    assert service_bounds(env.reset(KEYS[0], params)[1], params).tolist() == [8.0]


def test_measures_of_an_episode_computed_by_hand():
    env, params = one_service()
    power = Power(node_idle=10.0, node_busy=30.0, device_idle=1.0, device_busy=3.0, link=0.5)
    episodes = always(1).play(env, params, KEYS[:1], measuring=MeasureConfig(deadline=2.6, power=power))
    # Input from 3 to 7 s; runs until 17 s with half of the cpu, and until 23 s with a quarter of it.
    assert {name: float(getattr(episodes, name)[0]) for name in ("act", "p50", "p99", "makespan")} == {
        "act": 20.0,
        "p50": 20.0,
        "p99": 20.0,
        "makespan": 23.0,
    }
    assert episodes.slowdown.tolist() == [[2.5]]
    held = 10 * 0.5 + 6 * 0.25
    assert float(episodes.node_utilisation[0]) == pytest.approx(held / (2 * 23))
    assert float(episodes.link_utilisation[0]) == pytest.approx(4 / 23)
    assert float(episodes.energy[0]) == pytest.approx(2 * 10 * 23 + 20 * held + 0.5 * 40)
    assert (float(episodes.missed[0]), float(episodes.jain[0]), float(episodes.traffic[0])) == (0.0, 1.0, 40.0)
    late = always(1).play(env, params, KEYS[:1], measuring=MeasureConfig(deadline=2.4))
    assert float(late.missed[0]) == 1.0
    on_device = always(3).play(env, params, KEYS[:1], measuring=MeasureConfig(power=power))
    assert float(on_device.node_utilisation[0]) == 0.0
    assert float(on_device.energy[0]) == pytest.approx(2 * 10 * (3 + 4 + 8) + 2 * (5 + 3 * 0.5) + 0.5 * 40)


def test_a_service_without_load_and_a_network_without_links_have_finite_measures(tmp_path):
    service = {"release": 0, "source": 0, "preds": [[]], "load": [0], "data": [0], "demand": [[1]]}
    env, params = build_instance(
        links=[], node_speed=[10], device_speed=[0], capacity=[[1]], services=[service, service | {"load": [50]}]
    )
    episodes = always(0).play(env, params, KEYS[:1])
    assert episodes.slowdown.tolist() == [[1.0, 1.0]]
    assert all(np.isfinite(x).all() for x in episodes)
    nothing = {name: jnp.zeros_like(getattr(params.dags, name)) for name in ("load", "rank", "work")}
    params = params.replace(dags=params.dags.replace(**nothing))
    assert all(np.isfinite(x).all() for x in always(0).play(env, params, KEYS[:1]))
    save_schedule([record(env, params, always(0), KEYS[0])], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["policies"]["always"]["measures"]["energy"] == 0.0


def test_jains_index_of_known_values():
    assert float(jain(jnp.array([3.0, 3.0, 3.0]))) == pytest.approx(1.0)
    assert float(jain(jnp.array([0.0, 0.0, 5.0, 0.0]))) == pytest.approx(0.25)
    assert float(jain(jnp.array([1e30, 2e30]))) == pytest.approx(0.9)
    assert float(jain(jnp.zeros(3))) == 1.0


def test_sums_of_many_terms_lose_nothing():
    terms = np.random.default_rng(0).uniform(0.0, 4e-4, 20_000).astype(np.float32)
    terms[0] = 1e4

    @jax.jit
    def total(terms):
        return jax.lax.scan(lambda sum, x: (sum.plus(Work(x, x, x, x)), None), Total.of_nothing(), terms)[0]

    exact = terms.astype(np.float64).sum()
    assert float(total(terms).sum.traffic) == pytest.approx(exact, rel=1.2e-7)
    assert np.cumsum(terms)[-1] != pytest.approx(exact, rel=1e-6), "float32 alone loses some"


def replay(env, params, key):
    """Of an episode with postponed decisions: reward, energy and work of each step, whether it decided, and the end."""

    def step(carry, step_key):
        observation, state = carry
        action = decide(jnp.int32(LATER), observation, None, step_key)
        observation, after, reward, _, info = env.step_env(step_key, state, action, params)
        row = reward, decision_energy(state, info, params), decision_work(state, info, params), info["decided"]
        return (observation, after), row

    steps = 3 * SMALL.num_services * SMALL.max_microservices
    (_, state), rows = jax.lax.scan(step, env.reset_env(key, params), jax.random.split(key, steps))
    return state, rows, episode_measures(state, jax.tree.map(jnp.sum, rows[2]), params, config=MeasureConfig())


def test_rewards_from_measures_add_up_to_them(scenario):
    base, params = scenario
    env = WeightedEnv(base.config, params)
    played = jax.jit(jax.vmap(replay, in_axes=(None, None, 0)), static_argnums=0)(env, params, KEYS[:8])
    state, (rewards, energy, work, decided), measures = jax.tree.map(np.asarray, played)
    assert not np.isfinite(state.episode.next_ready).any(), "the episodes have ended"
    assert all((column[~decided] == 0.0).all() for column in work)
    np.testing.assert_allclose(energy.sum(axis=1), measures.energy, rtol=1e-5)
    added = {"completion": measures.completion.sum(axis=1), "energy": measures.energy, "traffic": measures.traffic}
    expected = -sum(WEIGHTS[name] * value for name, value in added.items())
    np.testing.assert_allclose(rewards.sum(axis=1), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: Power(link=-1.0), lambda: Power(node_idle=float("nan")), lambda: MeasureConfig(0.0)]
)
def test_impossible_numbers_are_refused(make):
    with pytest.raises(ValueError, match=r"(power\.(link|node_idle)|deadline): got"):
        make()
