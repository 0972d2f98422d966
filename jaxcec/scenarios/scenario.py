"""A scenario: the numbers of section V, and the banks and environment they make."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import CECEnv, EnvConfig, EnvParams, make_dags, make_network
from jaxcec.env.banks import Dag
from jaxcec.env.types import RewardKind
from jaxcec.scenarios.alibaba import LoadReport, load_batch_tasks
from jaxcec.scenarios.arrivals import draw_arrivals
from jaxcec.scenarios.job_table import JobTable, Runtime, alibaba_hour, job_dags
from jaxcec.scenarios.load_processes import KINDS, Kind, draw_background
from jaxcec.scenarios.seeds import check_choice, split_rng
from jaxcec.scenarios.synthetic_dags import check_demand, synthetic_dag
from jaxcec.scenarios.topology import most_links, synthetic_topology

Dataset = Literal["synthetic", "alibaba", "both"]
PAPER_SETTINGS = {"name": "paper", "load": 0.5, "reward": "ready-to-finish"}  # where section V departs from `Scenario`


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Settings of section V.A. `calibrated`, the default, differs from `paper` in the load alone: see docs/model.md."""

    name: str = "calibrated"  # said in results
    dataset: Dataset = "synthetic"  # where the services' DAGs come from; both: each episode from one or other
    trace: str | None = None  # the user's own batch_task.csv; None is the hour that ships with the package
    runtime: Runtime = "registered"  # a job's run times as in the paper, or corrected for waiting
    num_services: int = 20  # M, per episode
    max_microservices: int = 50  # N, per service
    num_nodes: int = 8  # V, edge nodes
    neighbours: tuple[int, int] = (2, 3)  # nearest nodes that a node is joined to, least and most
    bandwidth: float = 10.0  # Mbit/s, mean of a link, sd 80 %
    node_speed: float = 40.0  # Mcycles/s, mean of an edge node, sd 80 %
    device_speed: float = 10.0  # Mcycles/s, mean of an end device, sd 20 %
    load: float = 500.0  # Mcycles, mean of a microservice, sd 60 %; the paper prints 0.5
    data: float = 500.0  # Mbit, mean of a microservice's input, sd 80 %
    demand: tuple[float, float] = (0.25, 0.75)  # share of a node's cpu and memory that a microservice holds, uniform
    arrival_rate: float = 0.02  # services/s
    background: Kind = "ar1"  # load of other tenants
    frame: float = 10.0  # s, how long that load stays the same
    link_breakpoints: int = 126  # that the links' timeline holds
    host_breakpoints: int = 94  # that each host's timeline holds
    reward: RewardKind = "act"  # s per decision: minus the increase of ACT, of expected ACT, or Eq. 14
    num_topologies: int = 256  # rows of the bank, of each split
    num_dags: int = 1024  # likewise
    num_patterns: int = 1024  # likewise, arrival patterns
    num_traces: int = 64  # likewise, background traces
    num_frames: int = 1024  # of each background trace
    seed: int = 0  # of all banks

    def __post_init__(self) -> None:
        check_choice("scenario.dataset", self.dataset, get_args(Dataset))
        if self.trace is not None and self.dataset == "synthetic":
            raise ValueError(f"scenario.trace: got {self.trace!r}; needs scenario.dataset alibaba, not {self.dataset}")
        check_choice("scenario.runtime", self.runtime, get_args(Runtime))
        check_choice("scenario.background", self.background, KINDS)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "seed":
                if value < 0:
                    raise ValueError(f"scenario.seed: got {value}; must be at least 0")
            elif isinstance(value, int) and value < 1:
                raise ValueError(f"scenario.{field.name}: got {value}; must be at least 1")
            elif isinstance(value, float) and not 1e-9 <= value <= 1e15:  # float32 can bear what follows from them
                raise ValueError(f"scenario.{field.name}: got {value}; must be positive and finite, from 1e-9 to 1e15")
        check_demand(self.demand)
        least, largest = self.neighbours
        if not 1 <= least <= largest:
            raise ValueError(
                f"scenario.neighbours: got {self.neighbours}; must be (least, largest) with 1 <= least <= largest"
            )
        self.env_config()  # checks the rest

    def env_config(self) -> EnvConfig:
        """The sizes of the environment's arrays."""
        return EnvConfig(
            num_nodes=self.num_nodes,
            max_links=most_links(self.num_nodes, self.neighbours),
            num_services=self.num_services,
            max_microservices=self.max_microservices,
            link_breakpoints=self.link_breakpoints,
            host_breakpoints=self.host_breakpoints,
            reward=self.reward,
        )


def load_jobs(scenario: Scenario) -> tuple[JobTable, LoadReport | None]:
    """The jobs that the scenario's DAGs are drawn from, with what was dropped of the user's own trace.

    Raises:
        ValueError: the trace is missing, damaged or empty.
    """
    return (alibaba_hour(), None) if scenario.trace is None else load_batch_tasks(scenario.trace)


def make_env(scenario: Scenario, split: str, jobs: JobTable | None = None) -> tuple[CECEnv, EnvParams]:
    """The environment of a scenario, with the banks of one split as its default params.

    The splits share no DAG, topology, arrival pattern or background trace. One seed gives one set of banks.

    Args:
        scenario: the settings.
        split: `train` or `test`.
        jobs: what `load_jobs` gave, so that two splits read a trace once; by default it is read here.

    Raises:
        ValueError: an unknown split, or settings for which no bank can be drawn.
    """
    config = scenario.env_config()
    if scenario.dataset == "both":
        synthetic, alibaba = (dataclasses.replace(scenario, dataset=name) for name in get_args(Dataset)[:2])
        params = _either(make_env(synthetic, split)[1], make_env(alibaba, split, jobs)[1])
        return CECEnv(config, params), params
    rng = split_rng(scenario.seed, split, "topology")
    topologies = [
        synthetic_topology(
            rng,
            scenario.num_nodes,
            scenario.neighbours,
            scenario.bandwidth,
            scenario.node_speed,
            scenario.device_speed,
        )
        for _ in range(scenario.num_topologies)
    ]
    dags = _draw_dags(scenario, split, jobs)
    params = EnvParams(
        network=make_network(topologies, config.max_links),
        dags=make_dags(dags, config.max_microservices),
        arrivals=draw_arrivals(
            split_rng(scenario.seed, split, "arrivals"),
            scenario.num_patterns,
            scenario.num_services,
            len(dags),
            scenario.num_nodes,
        ),
        background=draw_background(
            scenario.background,
            split_rng(scenario.seed, split, "background"),
            scenario.num_traces,
            scenario.num_frames,
            scenario.frame,
        ),
        arrival_rate=np.float32(scenario.arrival_rate),
        max_steps_in_episode=np.int32(np.iinfo(np.int32).max),
    )
    params = jax.tree.map(jnp.asarray, params)
    return CECEnv(config, params), params


def _either(one: EnvParams, other: EnvParams) -> EnvParams:
    """Banks in which every arrival pattern has the DAGs of one scenario or those of the other, all else the first's."""
    shifted = other.arrivals.replace(dag=other.arrivals.dag + one.dags.size.shape[0])

    def joined(x: chex.ArrayTree, y: chex.ArrayTree) -> chex.ArrayTree:
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), x, y)

    return one.replace(dags=joined(one.dags, other.dags), arrivals=joined(one.arrivals, shifted))


def _draw_dags(scenario: Scenario, split: str, jobs: JobTable | None) -> list[Dag]:
    rng = split_rng(scenario.seed, split, "dags")
    if scenario.dataset == "synthetic":
        return [
            synthetic_dag(rng, scenario.max_microservices, 2, scenario.load, scenario.data, scenario.demand)
            for _ in range(scenario.num_dags)
        ]
    table = load_jobs(scenario)[0] if jobs is None else jobs
    fitting = int((table.sizes[table.split(split)] <= scenario.max_microservices).sum())
    return job_dags(
        table,
        rng,
        min(scenario.num_dags, fitting),
        split,
        scenario.max_microservices,
        scenario.load,
        scenario.data,
        scenario.demand,
        scenario.runtime,
    )
