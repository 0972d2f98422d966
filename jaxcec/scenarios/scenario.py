"""A scenario: the settings of section V.A of the paper, and the banks and the environment that follow from them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import CECEnv, EnvConfig, EnvParams, make_dags, make_network
from jaxcec.env.banks import Dag, Ties
from jaxcec.env.types import RewardKind
from jaxcec.scenarios.alibaba import LoadReport, load_batch_tasks
from jaxcec.scenarios.arrivals import draw_arrivals
from jaxcec.scenarios.job_table import JobTable, Runtime, alibaba_hour, job_dags
from jaxcec.scenarios.load_processes import BackgroundKind, draw_background
from jaxcec.scenarios.seeds import check_choice, split_rng
from jaxcec.scenarios.synthetic_dags import check_demand, synthetic_dag
from jaxcec.scenarios.topology import Duplex, check_neighbours, most_links, synthetic_topology

Dataset = Literal["synthetic", "alibaba", "both"]
# Where the scenario `paper`, section V as printed, departs from the defaults of `Scenario`.
PAPER_SETTINGS = {"name": "paper", "load": 0.5, "reward": "ready-to-finish"}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Settings of section V.A. The defaults, `calibrated`, differ from `paper` in load and reward (docs/model.md)."""

    name: str = "calibrated"  # label of the scenario in results
    dataset: Dataset = "synthetic"  # source of the services' DAGs; both: each episode takes them from one of the two
    trace: str | None = None  # path of your own batch_task.csv; None is the hour of jobs that ships with the package
    runtime: Runtime = "registered"  # run time of a trace's task: end - start, or corrected for the wait before it
    num_services: int = 20  # M, services per episode, at least 1
    max_microservices: int = 50  # N, microservices of the largest service, 1 to 32000
    num_nodes: int = 8  # V, edge nodes, at least 1
    neighbours: tuple[int, int] = (2, 3)  # nearest nodes that each node is linked to: least and most, at least 1
    bandwidth: float = 10.0  # Mbit/s, mean bandwidth of a link, positive; standard deviation 80 %
    node_speed: float = 40.0  # Mcycles/s, mean speed of an edge node, positive; standard deviation 80 %
    device_speed: float = 10.0  # Mcycles/s, mean speed of an end device, positive; standard deviation 20 %
    load: float = 500.0  # Mcycles, mean load of a microservice, positive; standard deviation 60 %; the paper prints 0.5
    data: float = 500.0  # Mbit, mean input of a microservice, positive; standard deviation 80 %
    demand: tuple[float, float] = (0.25, 0.75)  # range of a microservice's shares of a node's cpu and memory, in [0, 1]
    arrival_rate: float = 0.02  # services/s, rate of the Poisson arrivals, positive
    background: BackgroundKind = "ar1"  # load of other tenants: none, synthetic (ar1) or fitted to the Alibaba trace
    frame: float = 10.0  # s, time for which the background load stays constant, positive
    link_breakpoints: int = 126  # breakpoints that the timeline of the links can hold, at least 3
    host_breakpoints: int = 94  # breakpoints that the timeline of each host can hold, at least 3
    reward: RewardKind = "act"  # per decision, in s: minus the increase of ACT or of expected ACT, or Eq. 14
    ties: Ties = "index"  # which of a service's microservices that are ready at once is first: lowest index or top rank
    postpone: bool = False  # whether the action space has the postponement of a decision
    duplex: Duplex = "half"  # whether the directions of a link share its bandwidth (half) or have it each (full)
    latency: float = 0.0  # s, propagation delay of every link, at least 0
    num_topologies: int = 256  # topologies in the bank of each split, at least 1
    num_dags: int = 1024  # services' DAGs in the bank of each split, at least 1
    num_patterns: int = 1024  # arrival patterns in the bank of each split, at least 1
    num_traces: int = 64  # background traces in the bank of each split, at least 1
    num_frames: int = 1024  # frames of each background trace, at least 1
    seed: int = 0  # seed of all banks, at least 0

    def __post_init__(self) -> None:
        check_choice("scenario.dataset", self.dataset, get_args(Dataset))
        if self.trace is not None and self.dataset == "synthetic":
            raise ValueError(f"scenario.trace: got {self.trace!r}; must be None where scenario.dataset is synthetic")
        check_choice("scenario.runtime", self.runtime, get_args(Runtime))
        check_choice("scenario.background", self.background, get_args(BackgroundKind))
        check_choice("scenario.ties", self.ties, get_args(Ties))
        check_choice("scenario.duplex", self.duplex, get_args(Duplex))
        self._check_numbers()
        check_demand("scenario.demand", self.demand)
        check_neighbours("scenario.neighbours", self.neighbours)
        self.env_config()  # checks the sizes and the reward

    def _check_numbers(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "seed":
                if value < 0:
                    raise ValueError(f"scenario.seed: got {value}; must be at least 0")
            elif field.name == "latency":
                if not 0.0 <= value <= 1e6:
                    raise ValueError(f"scenario.latency: got {value}; must be from 0 to 1e6 s")
            elif isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"scenario.{field.name}: got {value}; must be at least 1")
            elif isinstance(value, float) and not 1e-9 <= value <= 1e15:  # products of these stay finite in float32
                raise ValueError(f"scenario.{field.name}: got {value}; must be positive and finite, from 1e-9 to 1e15")

    def env_config(self) -> EnvConfig:
        """Return the sizes of the environment's arrays."""
        return EnvConfig(
            num_nodes=self.num_nodes,
            max_links=most_links(self.num_nodes, self.neighbours) * (2 if self.duplex == "full" else 1),
            num_services=self.num_services,
            max_microservices=self.max_microservices,
            link_breakpoints=self.link_breakpoints,
            host_breakpoints=self.host_breakpoints,
            reward=self.reward,
            postpone=self.postpone,
        )


def load_jobs(scenario: Scenario) -> tuple[JobTable, LoadReport | None]:
    """Read the jobs from which a scenario of dataset `alibaba` or `both` draws its DAGs.

    Returns:
        The jobs, and for the user's own trace the report of what was dropped; None for the hour that ships.

    Raises:
        ImportError: for the user's own trace, without polars.
        ValueError: the trace is missing, damaged or has no usable job.
    """
    return (alibaba_hour(), None) if scenario.trace is None else load_batch_tasks(scenario.trace)


def make_env(scenario: Scenario, split: str, jobs: JobTable | None = None) -> tuple[CECEnv, EnvParams]:
    """Make the environment of a scenario, with the banks of one split as its default params.

    The splits share no DAG, topology, arrival pattern or background trace. Equal scenarios give equal banks.

    Args:
        scenario: the settings.
        split: `train` or `test`.
        jobs: the table that `load_jobs` returns, so that both splits share one reading of a trace; None reads it here.

    Returns:
        The environment, and its params.

    Raises:
        ImportError: the user's own trace is to be read without polars.
        ValueError: an unknown split, settings for which no bank can be drawn, or see `load_jobs`.
    """
    params = _draw_params(scenario, split, jobs)
    return CECEnv(scenario.env_config(), params), params


def _draw_params(scenario: Scenario, split: str, jobs: JobTable | None) -> EnvParams:
    """Draw the banks of one split."""
    if scenario.dataset == "both":
        synthetic = dataclasses.replace(scenario, dataset="synthetic", trace=None)
        alibaba = dataclasses.replace(scenario, dataset="alibaba")
        return _joined(_draw_params(synthetic, split, jobs), _draw_params(alibaba, split, jobs))
    rng = split_rng(scenario.seed, split, "topology")
    topologies = [
        synthetic_topology(
            rng,
            scenario.num_nodes,
            neighbours=scenario.neighbours,
            bandwidth=scenario.bandwidth,
            node_speed=scenario.node_speed,
            device_speed=scenario.device_speed,
            duplex=scenario.duplex,
            latency=scenario.latency,
        )
        for _ in range(scenario.num_topologies)
    ]
    dags = _draw_dags(scenario, split, jobs)
    params = EnvParams(
        network=make_network(topologies, scenario.env_config().max_links),
        dags=make_dags(dags, scenario.max_microservices, scenario.ties),
        arrivals=draw_arrivals(
            split_rng(scenario.seed, split, "arrivals"),
            num_patterns=scenario.num_patterns,
            num_services=scenario.num_services,
            num_dags=len(dags),
            num_nodes=scenario.num_nodes,
        ),
        background=draw_background(
            scenario.background,
            split_rng(scenario.seed, split, "background"),
            num_traces=scenario.num_traces,
            num_frames=scenario.num_frames,
            frame=scenario.frame,
        ),
        arrival_rate=np.float32(scenario.arrival_rate),
        max_steps_in_episode=np.int32(np.iinfo(np.int32).max),
    )
    return jax.tree.map(jnp.asarray, params)


def _joined(one: EnvParams, other: EnvParams) -> EnvParams:
    """Join the DAGs and the arrival patterns of two banks; everything else is the first's.

    An arrival pattern keeps the DAGs of the bank it comes from, so an episode never mixes the two.
    """
    shifted = other.arrivals.replace(dag=other.arrivals.dag + one.dags.size.shape[0])
    banks = (one.dags, one.arrivals), (other.dags, shifted)
    dags, arrivals = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), *banks)
    return one.replace(dags=dags, arrivals=arrivals)


def _draw_dags(scenario: Scenario, split: str, jobs: JobTable | None) -> list[Dag]:
    """Draw the services' DAGs: `num_dags` of them, or as many jobs as the split has that fit."""
    rng = split_rng(scenario.seed, split, "dags")
    units: dict[str, Any] = {"mean_load": scenario.load, "mean_data": scenario.data, "demand": scenario.demand}
    if scenario.dataset == "synthetic":
        return [synthetic_dag(rng, scenario.max_microservices, **units) for _ in range(scenario.num_dags)]
    table = load_jobs(scenario)[0] if jobs is None else jobs
    fitting = int((table.sizes[table.split(split)] <= scenario.max_microservices).sum())
    return job_dags(
        table,
        rng,
        split,
        num_dags=min(scenario.num_dags, fitting),
        max_microservices=scenario.max_microservices,
        runtime=scenario.runtime,
        **units,
    )
