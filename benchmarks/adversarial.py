"""Search for instances on which one policy does badly compared with another: PISA, with many chains at once.

    python benchmarks/adversarial.py --write
    python benchmarks/adversarial.py --only eft-local --chains 32 --generations 40

Simulated annealing over instances of 5 services of at most 8 microservices on 4 edge nodes (Coleman and Krishnamachari,
'PISA: An Adversarial Approach to Comparing Task Graph Scheduling Algorithms', 2024): one number of an instance or one
edge of a DAG is changed, and the change is kept if the ratio of average completion times grows, or else by chance. All
chains are simulated together. A chain keeps its links, and only links with one shortest path between each two nodes are
drawn, so that routes do not depend on the bandwidths that the search changes.

Every number stays within the range that the scenario `calibrated` draws it from. There is no background load.
`--write` replaces the instances that ship with the package by the worst ten of each pair, each from another chain.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from harness import processor, report, versions
from rich.console import Console
from rich.progress import Progress

from jaxcec.agents import PRETRAINED, load_policy
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import USUAL_TIME, Arrivals, Background, CECEnv, Dags, EnvParams, Network, build_instance, time_unit
from jaxcec.env.routing import Link, packed, routes
from jaxcec.evaluation import Apply, Contender, rollout
from jaxcec.files import write_aside
from jaxcec.policies import BASELINES
from jaxcec.scenarios.adversarial import ADVERSARIAL_CONFIG as SIZES
from jaxcec.scenarios.adversarial import ADVERSARIAL_FILE, PAIRS
from jaxcec.scenarios.topology import draw_topology

V, E, M, N, K = SIZES.num_nodes, SIZES.max_links, SIZES.num_services, SIZES.max_microservices, SIZES.num_resources
KEPT = 10  # instances of a pair
TEMPERATURES = (0.1, 0.002)  # first and last, in logarithms of the ratio
EDGE = 0.7  # a gene above is an edge
# Shape, least and largest of each quantity: where the scenario truncates it; three sd beyond the mean of a gap.
BOUNDS: dict[str, tuple[tuple[int, ...], float, float]] = {
    "speed": ((V,), 4.0, 76.0),  # Mcycles/s
    "bandwidth": ((E,), 1.0, 19.0),  # Mbit/s
    "load": ((M, N), 50.0, 950.0),  # Mcycles
    "data": ((M, N), 50.0, 950.0),  # Mbit
    "demand": ((M, N, K), 0.25, 0.75),
    "gap": ((M,), 0.0, 200.0),  # s between releases
    "source": ((M,), 0.0, V),
    "size": ((M,), 1.0, N + 1.0),
    "edge": ((M, N, N), 0.0, 1.0),
}
DEVICE_SPEED = 10.0  # Mcycles/s; no policy here uses a device
Genes = dict[str, chex.Array]  # each quantity as a share of its bounds, in [0, 1]
Links = tuple[chex.Array, chex.Array]  # of each chain: does a path cross a link, (I, V, V, E) bool, and `packed`


class Chains(NamedTuple):
    """All chains of annealing."""

    genes: Genes
    scores: chex.Array  # (I,) logarithms of the ratio
    best: Genes
    best_scores: chex.Array


def draw_links(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Links of a topology with one shortest path between each two nodes."""
    while True:
        links = draw_topology(rng, V, (1, 2))
        graph = nx.Graph(links)
        if all(len(list(nx.all_shortest_paths(graph, a, b))) == 1 for a, b in itertools.combinations(range(V), 2)):
            return links


def instance_params(genes: Genes, crosses: chex.Array, route: chex.Array) -> EnvParams:
    """The instance that genes encode, as `build_instance` makes it: one topology, one pattern, M DAGs."""
    value = {name: low + (high - low) * genes[name] for name, (_, low, high) in BOUNDS.items()}
    size = jnp.minimum(value["size"].astype(jnp.int32), N)
    there = jnp.arange(N)[None] < size[:, None]
    preds = (value["edge"] > EDGE) & jnp.tri(N, k=-1, dtype=bool)[None] & there[:, :, None]
    load = jnp.where(there, value["load"], 0.0)
    rank = load
    for j in reversed(range(N)):
        rank = rank.at[:, j].add(jnp.max(jnp.where(preds[:, :, j], rank, 0.0), axis=1))
    bandwidth = jnp.where(jnp.any(crosses, axis=(0, 1)), value["bandwidth"], 0.0)
    params = EnvParams(
        network=Network(
            bandwidth=bandwidth[None],
            route=route[None],
            bottleneck=jnp.min(jnp.where(crosses, bandwidth[None, None], jnp.inf), axis=-1)[None],
            latency=jnp.zeros((1, V, V)),
            speed=jnp.concatenate([value["speed"], jnp.full(V, DEVICE_SPEED)])[None],
            capacity=jnp.ones((1, 2 * V, K)),
        ),
        dags=Dags(
            size=size,
            preds=preds,
            load=load,
            data=jnp.where(there, value["data"], 0.0),
            sent=(preds | (jnp.eye(N, dtype=bool)[None] & (there & ~preds.any(axis=-1))[:, :, None])).astype(
                jnp.float32
            ),
            demand=jnp.where(there[..., None], value["demand"], 0.0),
            in_degree=jnp.where(there, preds.sum(axis=-1), -1).astype(jnp.int16),
            entry=jnp.zeros(M, jnp.int16),
            turn=jnp.tile(jnp.arange(N, dtype=jnp.int16), (M, 1)),
            rank=rank,
            work=load.sum(axis=-1),
        ),
        arrivals=Arrivals(
            dag=jnp.arange(M, dtype=jnp.int32)[None],
            source=jnp.minimum(value["source"].astype(jnp.int32), V - 1)[None],
            release=(jnp.cumsum(value["gap"]) - value["gap"][0])[None],
        ),
        background=Background(load=jnp.zeros((1, 1)), frame=jnp.float32(1.0)),
        arrival_rate=jnp.float32(1.0),
        max_steps_in_episode=jnp.int32(np.iinfo(np.int32).max),
        time_unit=jnp.float32(USUAL_TIME),
    )
    return params.replace(time_unit=time_unit(params.network, params.dags))


def changed(key: chex.PRNGKey, genes: Genes) -> Genes:
    """Genes with one number changed: one kind of quantity and one of its numbers, drawn again or moved by up to 0.1."""
    key_kind, *keys = jax.random.split(key, 1 + len(genes))
    kind = jax.random.randint(key_kind, (), 0, len(genes))

    def one_changed(gene: chex.Array, key: chex.PRNGKey) -> chex.Array:
        where, how, what = jax.random.split(key, 3)
        index = jax.random.randint(where, (), 0, gene.size)
        draw = jax.random.uniform(what)
        moved = jnp.clip(gene.ravel()[index] + 0.2 * draw - 0.1, 0.0, 1.0)
        new = jnp.where(jax.random.bernoulli(how), draw, moved)
        return gene.ravel().at[index].set(new).reshape(gene.shape)

    return {name: jnp.where(kind == i, one_changed(genes[name], keys[i]), genes[name]) for i, name in enumerate(BOUNDS)}


class Game(NamedTuple):
    """A pair: the policy that is to do badly and the one that is to do well. It is compiled once."""

    env: CECEnv
    applies: tuple[Apply, Apply]

    @functools.partial(jax.jit, static_argnums=0)
    def acts(self, params: EnvParams, weights: tuple) -> chex.Array:
        """(I, 2) ACT of both in I instances."""
        key = jax.random.split(jax.random.key(0), 1)  # neither draws

        def of_one(params: EnvParams) -> chex.Array:
            played = zip(self.applies, weights, strict=True)
            return jnp.stack([rollout(self.env, params, apply=f, params=w, keys=key).act[0] for f, w in played])

        return jax.vmap(of_one)(params)

    def scores(self, genes: Genes, links: Links, weights: tuple) -> chex.Array:
        """(I,) logarithm of the ratio of ACTs."""
        acts = jnp.log(self.acts(all_params(genes, *links), weights))
        return acts[:, 0] - acts[:, 1]

    def anneal(
        self, chains: Chains, links: Links, weights: tuple, key: chex.PRNGKey, temperature: chex.Array
    ) -> Chains:
        """One generation: every chain changes its instance, and keeps the change or not."""
        key_change, key_keep = jax.random.split(key)
        new = all_changed(jax.random.split(key_change, chains.scores.size), chains.genes)
        return decided(chains, new, self.scores(new, links, weights), key_keep, temperature)


all_changed = jax.jit(jax.vmap(changed))
all_params = jax.jit(jax.vmap(instance_params))


@jax.jit
def decided(chains: Chains, new: Genes, scores: chex.Array, key: chex.PRNGKey, temperature: chex.Array) -> Chains:
    """Keep changes that are worse for the first policy, others by chance, and the best instance so far."""
    chance = jnp.log(jax.random.uniform(key, scores.shape))
    kept = where(chance < (scores - chains.scores) / temperature, (new, scores), (chains.genes, chains.scores))
    return Chains(*kept, *where(kept[1] > chains.best_scores, kept, (chains.best, chains.best_scores)))


def where(keep: chex.Array, new: Any, old: Any) -> Any:
    """Chain by chain the one or the other."""
    return jax.tree.map(lambda x, y: jnp.where(keep.reshape(-1, *[1] * (x.ndim - 1)), x, y), new, old)


def plain(params: EnvParams, row: int, links: list[tuple[int, int]]) -> dict[str, Any]:
    """One of several instances as `build_instance` takes it, to five digits."""

    def rounded(values: np.ndarray) -> Any:
        return [rounded(v) for v in values] if values.ndim else float(f"{values:.5g}")

    p = jax.tree.map(lambda x: np.asarray(x[row]), params)
    services = []
    for m in range(M):
        n = int(p.dags.size[m])
        service = {"release": rounded(p.arrivals.release[0, m]), "source": int(p.arrivals.source[0, m])}
        service["preds"] = [np.flatnonzero(row).tolist() for row in p.dags.preds[m, :n]]
        services.append(service | {name: rounded(getattr(p.dags, name)[m, :n]) for name in ("load", "data", "demand")})
    return {
        "links": [(a, b, rounded(rate)) for (a, b), rate in zip(links, p.network.bandwidth[0], strict=False)],
        "node_speed": rounded(p.network.speed[0, :V]),
        "device_speed": [DEVICE_SPEED] * V,
        "capacity": [[1.0] * K] * V,
        "services": services,
    }


def contender(env: CECEnv, name: str, params: EnvParams) -> Contender:
    """A rule, or a policy that ships, for an environment with such params."""
    if name in BASELINES:
        return Contender.of_rule(name, BASELINES[name])
    observation = jax.eval_shape(env.reset_env, jax.random.key(0), params)[0]
    return load_policy(PRETRAINED / f"{name}.msgpack", observation).contender(env, name)


def search(pair: str, seed: int, count: int, generations: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Anneal chains for a pair; figures of the search, and the worst instances as they are stored."""
    begin, rng, env = time.perf_counter(), np.random.default_rng(seed), CECEnv(SIZES)
    drawn = [draw_links(rng) for _ in range(count)]
    crosses = [routes([Link(a, b, 1.0) for a, b in links], V, E)[0] for links in drawn]
    links = jnp.asarray(np.stack(crosses)), jnp.asarray(np.stack([packed(c) for c in crosses]))
    genes = {name: jnp.asarray(rng.random((count, *shape)), jnp.float32) for name, (shape, *_) in BOUNDS.items()}
    one = instance_params(*jax.tree.map(lambda x: x[0], (genes, *links)))
    bad, good = (contender(env, name, one) for name in pair.split("-"))
    game, weights = Game(env, (bad.apply, good.apply)), (bad.params, good.params)
    start = game.scores(genes, links, weights)
    chains = Chains(genes, start, genes, start)
    keys = jax.random.split(jax.random.key(seed), generations)
    heat = jnp.asarray(np.geomspace(*TEMPERATURES, generations), jnp.float32)
    with Progress(*Progress.get_default_columns(), "{task.fields[worst]}", console=Console(stderr=True)) as progress:
        task = progress.add_task(pair, total=generations, worst="")
        for key, temperature in zip(keys, heat, strict=True):
            chains = game.anneal(chains, links, weights, key, temperature)
            progress.update(task, advance=1, worst=f"worst ratio {np.exp(chains.best_scores.max()):.2f}")
    rows = np.argsort(-np.asarray(chains.best_scores))[:KEPT]
    params = all_params(*jax.tree.map(lambda x: x[rows], (chains.best, *links)))
    plains = [plain(params, i, drawn[row]) for i, row in enumerate(rows)]
    worst = with_acts(game, plains, weights)
    ratios = [acts[0] / acts[1] for acts in (found["acts"] for found in worst)]
    random, best = np.exp(np.asarray(start)), np.exp(np.asarray(chains.best_scores))
    return {
        "pair": pair,
        "random, median": float(np.median(random)),
        "random, worst": float(random.max()),
        "chains, median": float(np.median(best)),
        "worst": ratios[0],
        "tenth": ratios[-1],
        "evaluations": count * (generations + 1),
        "seconds": time.perf_counter() - begin,
    }, worst


def with_acts(game: Game, plains: list[dict[str, Any]], weights: tuple) -> list[dict[str, Any]]:
    """Instances as they are stored, the worst first; they are played again because their numbers have been rounded."""
    rows = [build_instance(**instance, config=SIZES)[1] for instance in plains]
    acts = np.asarray(game.acts(jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows), weights)).tolist()
    found = [{"acts": pair, "instance": instance} for pair, instance in zip(acts, plains, strict=True)]
    return sorted(found, key=lambda found: -found["acts"][0] / found["acts"][1])


def main() -> None:
    """Search for every pair and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--generations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="replace the instances that ship")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    use_compilation_cache()
    rows = []
    for pair in arguments.only:
        figures, worst = search(pair, arguments.seed, arguments.chains, arguments.generations)
        rows.append(figures)
        if arguments.write:
            stored = json.loads(ADVERSARIAL_FILE.read_text()) | {pair: worst}
            write_aside(ADVERSARIAL_FILE, json.dumps(stored, separators=(",", ":"), allow_nan=False) + "\n")
    setting = {"device": processor(), "versions": versions("jax", "jaxcec")} | {
        name: getattr(arguments, name) for name in ("chains", "generations", "seed")
    }
    columns = {"pair": ""} | dict.fromkeys(list(rows[0])[1:6], ".2f") | {"evaluations": ",", "seconds": ".0f"}
    report(setting, rows, columns, arguments.json)


if __name__ == "__main__":
    main()
