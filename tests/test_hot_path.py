"""What can be held about speed without a clock: bytes per decision, no way back to the host, writing in place."""

from functools import partial

import jax
import pytest

from jaxcec.agents import AgentConfig, loop
from jaxcec.policies import BASELINES
from jaxcec.scenarios import Scenario, make_env

ENVS = 64
# Bytes that one decision in the default scenario reads and writes by XLA's count on CPU (jax 0.10.1). Lower them with
# what you save; do not raise them without a reason in docs/performance.md.
BYTES_PER_DECISION = {"random": 191_900, "eft": 241_400}
# With the code that users run: the tests' own flag (conftest.py) makes XLA count fewer bytes.
USUAL_FUSION = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else {}
SLACK = 1.05  # between versions of XLA: 0.12 counts 4 % more for EFT


@pytest.fixture(scope="module")
def default():
    return make_env(Scenario(num_topologies=4, num_dags=16, num_patterns=16, num_traces=4, num_frames=64), "train")


@pytest.mark.parametrize("rule", BYTES_PER_DECISION)
def test_bytes_per_decision_do_not_grow(rule, default):
    env, params = default

    def step(state, keys):
        observation = jax.vmap(lambda s, k: env.observe(k, s, None, params))(state, keys)
        action = jax.vmap(BASELINES[rule])(observation, keys)
        return jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)[1]

    keys = jax.random.split(jax.random.key(0), ENVS)
    state = jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)[1]
    compiled = jax.jit(step, donate_argnums=0).lower(state, keys).compile(USUAL_FUSION)
    accessed = compiled.cost_analysis()["bytes accessed"] / ENVS
    assert 0.5 * BYTES_PER_DECISION[rule] < accessed <= SLACK * BYTES_PER_DECISION[rule]


def test_training_stays_on_the_device_and_writes_in_place(default):
    env, params = default
    config = AgentConfig(replay_size=4096)
    with jax.numpy_dtype_promotion("standard"):
        init = partial(loop.init_runner, env, params, config, num_envs=ENVS)
        runner = jax.eval_shape(init, jax.random.key(0))
        compiled = loop.train_chunk.lower(env, params, config, runner, steps=2).compile()
    program = compiled.as_text()
    assert "callback" not in program and "infeed" not in program and "outfeed" not in program
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((runner.env_state, runner.replay)))
    assert compiled.memory_analysis().alias_size_in_bytes >= kept, "replay and environments are not donated"
