"""The site: the network that the twin mirrors, and the sizes for which its programs are compiled."""

from __future__ import annotations

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from jaxcec.env import Dag, Dags, EnvConfig, EnvParams, Network, Topology, make_dags, make_network, time_unit
from jaxcec.env.banks import Ties
from jaxcec.env.instance import check_service, check_topology
from jaxcec.env.routing import resources, routes
from jaxcec.env.types import Arrivals, Background
from jaxcec.live.events import Service

_Rate = float | tuple[float, float]


class Site(BaseModel):
    """The fields of `build_instance` that describe a network, and sizes. Invalid values raise ValueError."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    links: list[tuple[int, int, _Rate] | tuple[int, int, _Rate, float]]  # Mbit/s, and latency in s
    node_speed: list[float]  # (V,) Mcycles/s
    device_speed: list[float]  # (V,) Mcycles/s
    capacity: list[list[float]]  # (V, K)
    ties: Ties = "index"
    frame: float = Field(default=10.0, ge=1e-3, le=1e6)  # s, over which measured loads are averaged
    num_services: int = Field(default=20, ge=1, le=10_000)  # M, in flight at a time; more of them wait
    max_microservices: int = Field(default=50, ge=1, le=1000)  # N, of the largest service
    link_breakpoints: int = Field(default=126, ge=3)
    host_breakpoints: int = Field(default=94, ge=3)

    @model_validator(mode="after")
    def _check(self) -> Site:
        _ = self.topology  # raises if it is invalid
        return self

    @cached_property
    def topology(self) -> Topology:
        """The network as `make_network` takes it."""
        return check_topology(self.links, self.node_speed, self.device_speed, self.capacity)

    @cached_property
    def config(self) -> EnvConfig:
        """Sizes of the simulator's arrays."""
        return EnvConfig(
            num_nodes=len(self.node_speed),
            max_links=max(len(resources(self.topology.links)), 1),
            num_services=self.num_services,
            max_microservices=self.max_microservices,
            num_resources=len(self.capacity[0]),
            link_breakpoints=self.link_breakpoints,
            host_breakpoints=self.host_breakpoints,
            postpone=True,
        )

    @cached_property
    def network(self) -> Network:
        """Bank of the one topology."""
        return jax.tree.map(jnp.asarray, make_network([self.topology], self.config.max_links))

    @cached_property
    def speed(self) -> np.ndarray:
        """(H,) Mcycles/s, edge nodes first."""
        return np.array([*self.node_speed, *self.device_speed])

    @cached_property
    def host_capacity(self) -> np.ndarray:
        """(H, K) resources of each host, edge nodes first."""
        return np.asarray(self.network.capacity[0])

    @cached_property
    def bandwidth(self) -> np.ndarray:
        """(E,) Mbit/s of each link resource."""
        return np.asarray(self.network.bandwidth[0])

    @cached_property
    def route(self) -> np.ndarray:
        """(V, V, E) bool, link resources on the path from a node to another."""
        return routes(self.topology.links, self.config.num_nodes, self.config.max_links)[0]

    @cached_property
    def empty(self) -> EnvParams:
        """Params of the site's shapes in which every service is one microservice that takes no time.

        Policies are loaded and compiled with them.
        """
        config = self.config
        dags = jax.tree.map(lambda x: jnp.asarray(np.repeat(x, config.num_services, axis=0)), self.row(self._nothing()))
        return EnvParams(
            network=self.network,
            dags=dags,
            arrivals=Arrivals(
                dag=jnp.arange(config.num_services, dtype=jnp.int32)[None],
                source=jnp.zeros((1, config.num_services), jnp.int32),
                release=jnp.zeros((1, config.num_services), jnp.float32),
            ),
            background=Background(load=jnp.zeros((1, 1), jnp.float32), frame=jnp.float32(self.frame)),
            arrival_rate=jnp.float32(1.0),
            max_steps_in_episode=jnp.int32(np.iinfo(np.int32).max),
            time_unit=time_unit(self.network, dags),
        )

    def dag(self, service: Service) -> Dag:
        """The DAG of a service.

        Raises:
            ValueError: it is not a DAG, is too large, or has a microservice that can run nowhere at its source or on
                the edge nodes; the message names the field, the value and what is allowed.
        """
        return check_service("service", service.fields(), self.topology)

    def row(self, dag: Dag) -> Dags:
        """Bank of one service, S = 1, as numpy arrays."""
        return make_dags([dag], self.max_microservices, self.ties)

    def _nothing(self) -> Dag:
        """A service of one microservice that takes no time."""
        return Dag(preds=[[]], load=np.zeros(1), data=np.zeros(1), demand=np.zeros((1, self.config.num_resources)))
