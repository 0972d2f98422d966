"""A scenario: the settings of section V.A of the paper, and the sources that may take their place."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

from jaxcec.env import EnvConfig
from jaxcec.env.banks import Ties
from jaxcec.env.types import RewardKind
from jaxcec.scenarios.job_table import Runtime
from jaxcec.scenarios.load_processes import BACKGROUNDS
from jaxcec.scenarios.seeds import check_choice
from jaxcec.scenarios.synthetic_dags import check_demand
from jaxcec.scenarios.topology import Duplex, check_neighbours, most_links

# Sources that are no files.
DATASETS = ("synthetic", "alibaba", "both")
NETWORKS = ("generated", "varied")
ARRIVALS = ("poisson", "bursty", "trace")
_PACKAGES = {"dataset": "wfcommons:RECIPE", "network": "topohub:NAME"}
# Where the scenario `paper`, section V as printed, departs from the defaults of `Scenario`.
PAPER_SETTINGS = {"name": "paper", "load": 0.5, "reward": "ready-to-finish"}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Settings of section V.A. The defaults, `calibrated`, differ from `paper` in load and reward (docs/model.md)."""

    name: str = "calibrated"  # label of the scenario in results
    # Source of the services' DAGs: synthetic, alibaba, both (each episode takes them from one of the two), a file,
    # folder or glob of workflows, or wfcommons:RECIPE.
    dataset: str = "synthetic"
    trace: str | None = None  # path of your own batch_task.csv; None is the hour of jobs that ships with the package
    runtime: Runtime = "registered"  # run time of a trace's task: end - start, or corrected for the wait before it
    # Source of the networks: generated as in the paper, varied (they differ by more: `topology.varied_topology`), a
    # file, folder or glob of networks, or topohub:NAME.
    network: str = "generated"
    largest_part: bool = False  # of a network in several parts, keep the largest
    rescale: bool = False  # scale bandwidths, speeds, loads, data and arrivals of files to the means below
    num_services: int = 20  # M, services per episode, at least 1
    max_microservices: int = 50  # N, microservices of the largest service, 1 to 32000; workflows from files set it
    num_nodes: int = 8  # V, edge nodes, at least 1; networks from files set it
    neighbours: tuple[int, int] = (2, 3)  # nearest nodes that each node is linked to: least and most, at least 1
    bandwidth: float = 10.0  # Mbit/s, mean bandwidth of a link, positive; standard deviation 80 %
    node_speed: float = 40.0  # Mcycles/s, mean speed of an edge node, positive; standard deviation 80 %
    device_speed: float = 10.0  # Mcycles/s, mean speed of an end device, positive; standard deviation 20 %
    load: float = 500.0  # Mcycles, mean load of a microservice, positive; standard deviation 60 %; the paper prints 0.5
    data: float = 500.0  # Mbit, mean input of a microservice, positive or 0 for none; standard deviation 80 %
    demand: tuple[float, float] = (0.25, 0.75)  # range of a microservice's shares of a node's cpu and memory, in [0, 1]
    # Instants of arrivals: of a Poisson process, in bursts, those of the jobs of `alibaba` (trace), or of a CSV file.
    arrivals: str = "poisson"
    arrival_rate: float = 0.02  # services/s, mean rate of the arrivals, positive; a CSV file has its own
    background: str = "ar1"  # load of other tenants: none, synthetic (ar1), fitted to the Alibaba trace, or a CSV file
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
        sources = {"dataset": DATASETS, "network": NETWORKS, "arrivals": ARRIVALS, "background": BACKGROUNDS}
        for name, names in sources.items():
            _check_source(name, getattr(self, name), names)
        if self.arrivals == "trace" and self.dataset != "alibaba":
            raise ValueError(
                f"scenario.arrivals: got 'trace' with dataset {self.dataset}; needs alibaba, whose jobs have instants"
            )
        if self.trace is not None and self.dataset not in ("alibaba", "both"):
            raise ValueError(
                f"scenario.trace: got {self.trace!r}; must be None where scenario.dataset is {self.dataset}"
            )
        check_choice("scenario.runtime", self.runtime, get_args(Runtime))
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
            elif field.name == "data" and value == 0.0:
                continue  # services without input
            elif isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"scenario.{field.name}: got {value}; must be at least 1")
            elif isinstance(value, float) and not 1e-9 <= value <= 1e15:  # products of these stay finite in float32
                raise ValueError(f"scenario.{field.name}: got {value}; must be positive and finite, from 1e-9 to 1e15")

    def env_config(self) -> EnvConfig:
        """Return the sizes of the environment's arrays, if networks and services are generated."""
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


def _check_source(field: str, value: str, names: tuple[str, ...]) -> None:
    """Raise ValueError unless a source is one of the names, or may be a file, folder, glob, or name in a package."""
    package = _PACKAGES.get(field)
    is_package = package is not None and value.startswith(package.partition(":")[0] + ":")
    if value in names or is_package or any(sign in value for sign in "./\\*") or Path(value).exists():
        return
    allowed = [*names, *([package] if package else []), "the path of a file"]
    raise ValueError(f"scenario.{field}: got {value!r}; must be one of {', '.join(allowed)}")
