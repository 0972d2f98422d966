"""The environments `-v0` compute what they computed when `recorded/v0.npz` was made, to the last bit.

The file was made before the model was widened to `-v1`, on a CPU, with the XLA flags of tests/conftest.py: unoptimised
code rounds alike everywhere. Optimised code may contract a product and a sum, and is compared within a tolerance.
`XLA_FLAGS=... python tests/env/test_v0.py` makes the file again, right only if `-v0` itself is meant to change.
"""

import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcec
from jaxcec.env import Action

RECORDED = Path(__file__).parent / "recorded" / "v0.npz"
IDS = ("calibrated-v0", "paper-v0", "alibaba-calibrated-v0", "alibaba-paper-v0")
SIZES = {
    "num_services": 4,
    "max_microservices": 8,
    "num_nodes": 5,
    "link_breakpoints": 40,
    "host_breakpoints": 20,
    "num_topologies": 3,
    "num_dags": 16,
    "num_patterns": 4,
    "num_traces": 4,
    "num_frames": 32,
}
FLAGS = "XLA_FLAGS"
ROUNDING = 1e-5  # relative
STEPS = 40  # at least one episode and the beginning of the next
TIMES = ("time", "flow_start", "data_ready", "start", "finish", "act")


@partial(jax.jit, static_argnums=0)
def play(env, params, hosts, etas):
    """Every leaf of the observations by name, and the times and rewards of the decisions, over STEPS steps.

    Decisions alternate between the earliest finish at full bandwidth and a drawn host and bandwidth.
    """

    def step(carry, drawn):
        seen, state, key = carry
        index, host, eta = drawn
        eft = index % 2 == 0
        action = Action(
            host=jnp.where(eft, jnp.argmin(seen.nodes.finish), host).astype(jnp.int32),
            bandwidth=jnp.where(eft, 1.0, eta),
            hold=jnp.float32(0.0),
        )
        after, state, reward, *_, info = env.step(jax.random.fold_in(key, index), state, action, params)
        return (after, state, key), (seen, reward, {name: info[name] for name in (*TIMES, "service", "microservice")})

    key = jax.random.key(0)
    seen, state = env.reset(key, params)
    _, (seen, reward, info) = jax.lax.scan(step, (seen, state, key), (jnp.arange(STEPS), hosts, etas))
    parts = {"nodes": seen.nodes, "links": seen.links, "microservice": seen.microservice, "service": seen.service}
    leaves = {f"{part}.{name}": leaf for part, tree in parts.items() for name, leaf in vars(tree).items()}
    return leaves | info | {"reward": reward}


def played(env_id):
    env, params = jaxcec.make(env_id, "test", **SIZES)
    rng = np.random.default_rng(0)
    hosts = jnp.asarray(rng.integers(0, env.num_actions, STEPS), jnp.int32)
    etas = jnp.asarray(rng.uniform(0.1, 1.0, STEPS), jnp.float32)
    return {name: np.asarray(leaf) for name, leaf in play(env, params, hosts, etas).items()}


@pytest.mark.parametrize("env_id", IDS)
def test_episodes_are_those_recorded_to_the_last_bit(env_id):
    now = played(env_id)
    with np.load(RECORDED) as recorded:
        flags = str(recorded[FLAGS])
        before = {name.split("/")[1]: recorded[name] for name in recorded.files if name.startswith(f"{env_id}/")}
    assert before
    assert (before["act"] > 0).any(), "an episode ends"
    unoptimised = os.environ.get(FLAGS) == flags and jax.default_backend() == "cpu"

    def same(now: np.ndarray, before: np.ndarray) -> bool:
        return np.array_equal(now, before) if unoptimised else np.allclose(now, before, rtol=ROUNDING, atol=ROUNDING)

    assert [name for name, leaf in before.items() if not same(now[name], leaf)] == []


if __name__ == "__main__":
    leaves = {f"{env_id}/{name}": leaf for env_id in IDS for name, leaf in played(env_id).items()}
    np.savez_compressed(RECORDED, **leaves, **{FLAGS: os.environ[FLAGS]})
