"""The environment of a scenario, with its banks."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import CECEnv, EnvConfig, EnvParams, make_dags, make_network, time_unit
from jaxcec.env.banks import Dag, Topology
from jaxcec.env.types import Arrivals, Background
from jaxcec.scenarios.arrivals import draw_arrivals, unit_instants
from jaxcec.scenarios.from_files import all_kinds, file_dags, file_topologies, most_link_resources
from jaxcec.scenarios.job_table import job_dags
from jaxcec.scenarios.load_processes import draw_background
from jaxcec.scenarios.machine_usage import usage_traces
from jaxcec.scenarios.scenario import Scenario
from jaxcec.scenarios.seeds import split_rng
from jaxcec.scenarios.sources import Sources, of_split, read_sources
from jaxcec.scenarios.synthetic_dags import synthetic_dag
from jaxcec.scenarios.topology import synthetic_topology, varied_topology

_MOST_ROUTES = 2**31  # bytes that the routes of a bank of networks take


def make_env(scenario: Scenario, split: str, sources: Sources | None = None) -> tuple[CECEnv, EnvParams]:
    """Make the environment of a scenario, with the banks of one split as its default params.

    The splits share no DAG, topology, arrival pattern or background trace, but for what `Sources.shared` names. Equal
    scenarios and files give equal banks.

    Args:
        scenario: the settings.
        split: `train` or `test`.
        sources: what `read_sources` returns, so that both splits share one reading of the files; None reads them here.

    Returns:
        The environment, and its params.

    Raises:
        ImportError: a package is missing that reads the files.
        ValueError: an unknown split, settings for which no bank can be drawn, or see `read_sources`.
    """
    sources = read_sources(scenario) if sources is None else sources
    sizes = _sizes(scenario, sources)
    params = _draw_params(scenario, split, sources, sizes=sizes)
    return CECEnv(sizes, params), params


def _sizes(scenario: Scenario, sources: Sources) -> EnvConfig:
    """Sizes of the environment: those of the scenario, or of the largest network and service from files."""
    sizes = scenario.env_config()
    if sources.networks:
        sizes = dataclasses.replace(
            sizes,
            num_nodes=max(len(network.nodes) for network in sources.networks),
            max_links=most_link_resources(sources.networks, duplex=scenario.duplex),
        )
    if sources.workflows:
        most = max(len(workflow.tasks) for workflow in sources.workflows)
        sizes = dataclasses.replace(sizes, max_microservices=most)
    return dataclasses.replace(sizes, num_resources=len(all_kinds(sources.networks, sources.workflows)))


def _draw_params(scenario: Scenario, split: str, sources: Sources, *, sizes: EnvConfig) -> EnvParams:
    """Draw the banks of one split."""
    if scenario.dataset == "both":
        synthetic = dataclasses.replace(scenario, dataset="synthetic", trace=None)
        alibaba = dataclasses.replace(scenario, dataset="alibaba")
        return _joined(*(_draw_params(one, split, sources, sizes=sizes) for one in (synthetic, alibaba)))
    topologies = _draw_topologies(scenario, split, sources)
    _check_routes(len(topologies), sizes)
    dags = _draw_dags(scenario, split, sources)
    arrivals, rate = _draw_arrivals(scenario, split, sources, num_dags=len(dags), num_nodes=sizes.num_nodes)
    network = make_network(topologies, sizes.max_links, sizes.num_nodes)
    bank = make_dags(dags, sizes.max_microservices, scenario.ties)
    params = EnvParams(
        network=network,
        dags=bank,
        arrivals=arrivals,
        background=_draw_background(scenario, split, sources),
        arrival_rate=np.float32(rate),
        max_steps_in_episode=np.int32(np.iinfo(np.int32).max),
        time_unit=time_unit(network, bank),
    )
    return jax.tree.map(jnp.asarray, params)


def _check_routes(count: int, sizes: EnvConfig) -> None:
    """Refuse a bank of networks whose routes would fill the memory, before they are computed."""
    size = 4 * count * -(-sizes.num_nodes // 32) * sizes.num_nodes * sizes.max_links
    if size > _MOST_ROUTES or sizes.num_nodes**2 * sizes.max_links > _MOST_ROUTES:
        raise ValueError(
            f"scenario.network: got {count} networks of up to {sizes.num_nodes} nodes and {sizes.max_links} links, of "
            f"which the routes take {size / 1e9:.1f} GB, for all have the size of the largest; must be fewer, smaller "
            "or of similar size"
        )


def _draw_topologies(scenario: Scenario, split: str, sources: Sources) -> list[Topology]:
    rng = split_rng(scenario.seed, split, "topology")
    means = {name: getattr(scenario, name) for name in ("bandwidth", "node_speed", "device_speed", "latency")}
    if sources.networks:
        networks = of_split(sources.networks, split)
        kinds = all_kinds(sources.networks, sources.workflows)
        most = scenario.num_topologies
        return file_topologies(networks, rng, most=most, kinds=kinds, duplex=scenario.duplex, **means)
    draw = synthetic_topology
    if scenario.network == "varied":
        draw = partial(varied_topology, crossing=scenario.data / scenario.bandwidth)
    return [
        draw(rng, scenario.num_nodes, neighbours=scenario.neighbours, duplex=scenario.duplex, **means)
        for _ in range(scenario.num_topologies)
    ]


def _draw_dags(scenario: Scenario, split: str, sources: Sources) -> list[Dag]:
    """Draw the services' DAGs: `num_dags` of them, or as many jobs as the split has that fit."""
    rng = split_rng(scenario.seed, split, "dags")
    units: dict[str, Any] = {"mean_load": scenario.load, "mean_data": scenario.data, "demand": scenario.demand}
    if sources.workflows:
        return file_dags(
            of_split(sources.workflows, split),
            rng,
            most=scenario.num_dags,
            kinds=all_kinds(sources.networks, sources.workflows),
            speed=scenario.node_speed,
            mean_load=scenario.load,
            demand=scenario.demand,
        )
    if scenario.dataset == "synthetic":
        return [synthetic_dag(rng, scenario.max_microservices, **units) for _ in range(scenario.num_dags)]
    table = sources.jobs
    assert table is not None  # `read_sources` read it for this dataset
    fitting = int((table.sizes[table.split(split)] <= scenario.max_microservices).sum())
    if not fitting:
        where = scenario.trace or "the shipped hour of jobs"
        raise ValueError(
            f"{where}: got {len(table):,} DAG jobs, none of which is in the split {split} with at most "
            f"{scenario.max_microservices} microservices; must have more jobs (a fifth of them, by content, is for "
            "testing), or --scenario.max-microservices must be larger"
        )
    return job_dags(
        table,
        rng,
        split,
        num_dags=min(scenario.num_dags, fitting),
        max_microservices=scenario.max_microservices,
        runtime=scenario.runtime,
        **units,
    )


def _draw_arrivals(
    scenario: Scenario, split: str, sources: Sources, *, num_dags: int, num_nodes: int
) -> tuple[Arrivals, float]:
    """The arrivals of a split, and their rate: the scenario's, or that of the file that has the instants."""
    rate, instants = scenario.arrival_rate, sources.instants
    if instants is not None:
        where = scenario.trace or "the shipped hour of jobs" if scenario.arrivals == "trace" else scenario.arrivals
        instants, recorded = unit_instants(instants, split, num_services=scenario.num_services, where=where)
        rate = rate if scenario.rescale or scenario.arrivals == "trace" else recorded
    arrivals = draw_arrivals(
        split_rng(scenario.seed, split, "arrivals"),
        num_patterns=scenario.num_patterns,
        num_services=scenario.num_services,
        num_dags=num_dags,
        num_nodes=num_nodes,
        process="bursty" if scenario.arrivals == "bursty" else "poisson",
        instants=instants,
    )
    return arrivals, rate


def _draw_background(scenario: Scenario, split: str, sources: Sources) -> Background:
    if sources.usage is not None:
        return usage_traces(*sources.usage, split, num_frames=scenario.num_frames, frame=scenario.frame)
    return draw_background(
        scenario.background,
        split_rng(scenario.seed, split, "background"),
        num_traces=scenario.num_traces,
        num_frames=scenario.num_frames,
        frame=scenario.frame,
    )


def _joined(one: EnvParams, other: EnvParams) -> EnvParams:
    """Join the DAGs and the arrival patterns of two banks; everything else is the first's.

    An arrival pattern keeps the DAGs of the bank it comes from, so an episode never mixes the two.
    """
    shifted = other.arrivals.replace(dag=other.arrivals.dag + one.dags.size.shape[0])
    banks = (one.dags, one.arrivals), (other.dags, shifted)
    dags, arrivals = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), *banks)
    return one.replace(dags=dags, arrivals=arrivals, time_unit=time_unit(one.network, dags))
