"""`jaxcec-live serve`: the controller of a site, with its HTTP API."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jaxcec.checks import check_numbers
from jaxcec.commands.console import console
from jaxcec.commands.contenders import PolicyChoice, contenders_for
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv
from jaxcec.evaluation import Contender
from jaxcec.live.controller import Controller
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.kubernetes_extender import Extender
from jaxcec.live.protocol import Address
from jaxcec.live.server import HTTP_TOKEN, Api, check_token, serve
from jaxcec.live.site import Site
from jaxcec.live.worker import TOKEN
from jaxcec.policies import earliest_finish


@dataclasses.dataclass(frozen=True)
class ServeCommand:
    """Control a site, and answer HTTP requests until told to end. Tokens are read from the environment:
    JAXCEC_LIVE_TOKEN is the workers', and JAXCEC_LIVE_HTTP_TOKEN is asked of clients, if it is set."""

    site: Path
    """YAML file with the sections `site`, `workers`, and if need be `links` and `kubernetes`: see docs/live.md."""
    log: Path = Path("live.sqlite")
    """Event log; the site goes on from what it says."""
    policy: str = "dtdrlmo"
    """Policy that decides."""
    deadline: float = 0.2
    """Seconds that it has for a decision; if it is late, the earliest finish decides."""
    host: str = "127.0.0.1"
    """Address to listen on; any that others can reach needs a token."""
    port: int = 8080
    """Port to listen on."""

    def __post_init__(self) -> None:
        check_numbers(self, "--", least={"port": 0}, positive=("deadline",))


class KubernetesSection(BaseModel):
    """What Kubernetes calls the site's nodes and resources."""

    model_config = ConfigDict(extra="forbid")

    names: list[str]  # (V,) of the nodes
    resources: dict[str, float]  # (K,) name of each kind of resource, and how much of Kubernetes' unit is one here


class SiteFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    site: Site
    workers: dict[int, Address]  # of each host
    links: dict[str, int] = Field(default={})  # index of each link resource, by the name by which workers report it
    kubernetes: KubernetesSection | None = None


def read_site(path: Path) -> SiteFile:
    """Read a site's file.

    Raises:
        ValueError: there is none, it is no YAML, or a value is invalid.
    """
    if not path.is_file():
        raise ValueError(f"--site: got {path}; there is no such file")
    try:
        return SiteFile.model_validate(yaml.safe_load(path.read_bytes()))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{path}: {error}") from None


def serve_site(command: ServeCommand) -> None:
    """Control the site until told to end.

    Raises:
        ValueError: the file, the policy or a token is not fit.
    """
    http_token, token = os.environ.get(HTTP_TOKEN, ""), os.environ.get(TOKEN, "")
    check_token(command.host, http_token)
    if not token:
        raise ValueError(f"{TOKEN}: got nothing; must be the token that the workers know")
    read = read_site(command.site)
    use_compilation_cache()
    env = CECEnv(read.site.config)
    (contender,), _ = contenders_for(PolicyChoice(names=(command.policy,)), env, read.site.empty)
    fallback = Contender.of_rule("eft", earliest_finish)
    decider = Decider(read.site, contender, fallback=fallback, deadline=command.deadline)
    log = EventLog(command.log)
    try:
        controller = Controller(
            read.site, log, decider=decider, workers=read.workers, token=token, link_names=read.links
        )
        api = Api(controller, log, _extender(read, controller))
        console.print(f"http://{command.host}:{command.port}, {len(read.workers)} workers, policy {command.policy}")
        asyncio.run(serve(controller, api, host=command.host, port=command.port, token=http_token))
    finally:
        decider.close()
        log.close()


def _extender(read: SiteFile, controller: Controller) -> Extender | None:
    if read.kubernetes is None:
        return None
    names, resources = read.kubernetes.names, read.kubernetes.resources
    return Extender(controller.ledger, controller.now, names=names, resources=resources)
