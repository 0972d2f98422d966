"""DDPG for a network and services given as lists, with validation, checkpoint and curves, next to EFT."""

import jax

from jaxcec.agents import AgentConfig, EvolutionConfig, RunFolder, train
from jaxcec.env import build_instance
from jaxcec.evaluation import Contender, episode_keys
from jaxcec.policies import BASELINES

dag = {"preds": [[], [0], [0], [1, 2]], "load": [200, 400, 400, 200], "data": [50, 200, 200, 50]}
services = [dag | {"release": 5.0 * i, "source": i % 3, "demand": [[0.5, 0.5]] * 4} for i in range(6)]
net: dict = {"links": [(0, 1, 40), (1, 2, 40), (2, 3, 10)], "node_speed": [20, 40, 20, 80], "capacity": [[1, 1]] * 4}
env, params = build_instance(**net, device_speed=[5] * 4, services=services)
config = AgentConfig("ddpg", batch_size=256, replay_size=16384, evolution=EvolutionConfig(generations=20, pairs=16))
folder = RunFolder("runs/examples/own", config, env.config, exist_ok=True)
trained = train(env, params, config, num_envs=64, total_decisions=20_000, key=jax.random.key(0), callback=folder)
folder.save()
for each in (Contender.of_rule("eft", BASELINES["eft"]), trained.contender(env)):
    print(f"{each.name}: ACT {each.play(env, params, episode_keys(seed=0, count=1)).act.mean():.1f} s")
