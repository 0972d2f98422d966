"""A custom topology and custom services given as plain lists, and the schedules of three rules."""

import jax

from jaxcec.env import build_instance
from jaxcec.policies import BASELINES

env, params = build_instance(
    links=[(0, 1, 10.0), (1, 2, 5.0), (0, 2, 2.0)],  # from, to, Mbit/s
    node_speed=[40.0, 20.0, 60.0],  # Mcycles/s
    device_speed=[10.0, 10.0, 10.0],
    capacity=[[1.0, 1.0]] * 3,  # cpu, memory
    services=[
        {  # a diamond: 0, then 1 and 2, then 3
            "release": 0.0,
            "source": 0,
            "preds": [[], [0], [0], [1, 2]],
            "load": [400.0, 900.0, 600.0, 300.0],  # Mcycles
            "data": [20.0, 80.0, 40.0, 30.0],  # Mbit of input
            "demand": [[0.5, 0.3]] * 4,
        },
        {  # a chain
            "release": 5.0,
            "source": 1,
            "preds": [[], [0], [1]],
            "load": [500.0, 500.0, 500.0],
            "data": [10.0, 60.0, 60.0],
            "demand": [[0.7, 0.5]] * 3,
        },
    ],
)

if __name__ == "__main__":
    for name in ("local", "greedy", "eft"):
        key = jax.random.key(0)
        observation, state = env.reset(key)
        terminated = False
        print(name)
        while not terminated:
            action = BASELINES[name](observation, key)
            observation, state, _, terminated, info = env.step_env(key, state, action, params)
            print(
                f"  service {info['service']} microservice {info['microservice']} on node {info['host']}: input there"
                f" at {info['data_ready']:5.1f} s, runs {info['start']:5.1f} to {info['finish']:5.1f} s"
            )
        print(f"  ACT {info['act']:.1f} s")
