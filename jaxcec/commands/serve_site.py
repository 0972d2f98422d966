"""`jaxcec-live serve`: the controller of a site, with its HTTP API."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jaxcec.checks import check_numbers
from jaxcec.commands.console import console
from jaxcec.commands.contenders import EXACT, ROLLOUTS, TWIN_EFT, TWIN_PLAN, PolicyChoice, contenders_for
from jaxcec.commands.refit_twin import refit_regularly, version_to_use
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv
from jaxcec.evaluation import Contender
from jaxcec.live.controller import Controller
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.kubernetes_extender import Extender
from jaxcec.live.lateness import Lateness, no_lateness
from jaxcec.live.policy_versions import Version
from jaxcec.live.protocol import Address
from jaxcec.live.server import HTTP_TOKEN, Api, check_token, serve
from jaxcec.live.site import Site
from jaxcec.live.worker import TOKEN
from jaxcec.policies import earliest_finish

_PLANNERS = ("dtdrlmo-plan", TWIN_PLAN, *ROLLOUTS)
_OF_DTDRLMO = ("dtdrlmo", EXACT, TWIN_EFT, TWIN_PLAN)


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
    """Seconds that it has for a decision; if it is late, dtdrlmo decides in place of a planner, and otherwise the
    earliest finish."""
    host: str = "127.0.0.1"
    """Address to listen on; any that others can reach needs a token."""
    port: int = 8080
    """Port to listen on."""
    refit_every: float | None = None
    """Seconds from one refit to the log to the next, of how late runs finish and of dtdrlmo's twin; by default there
    is none."""
    versions: Path = Path("live-policies")
    """Folder for the versions that are refitted; with --refit-every the current ones are used from the start."""

    def __post_init__(self) -> None:
        check_numbers(self, "--", least={"port": 0}, positive=("deadline", "refit_every"))


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
    contender, lateness = _learned(command, read.site)
    fallback = _fallback(command, read.site)
    decider = Decider(read.site, contender, fallback=fallback, deadline=command.deadline, lateness=lateness)
    log = EventLog(command.log)
    try:
        controller = Controller(
            read.site, log, decider=decider, workers=read.workers, token=token, link_names=read.links
        )
        api = Api(controller, log, _extender(read, controller, decider))
        console.print(f"http://{command.host}:{command.port}, {len(read.workers)} workers, policy {command.policy}")
        serving = serve(controller, api, host=command.host, port=command.port, token=http_token)
        refitted = command.refit_every is not None
        asyncio.run(_with_refits(serving, command, read.site, decider) if refitted else serving)
    finally:
        decider.close()
        log.close()


def _learned(command: ServeCommand, site: Site, version: Version | None = None) -> tuple[Contender, Lateness]:
    """The policy and the lateness; where there are refits, those of a version, by default of the current one."""
    if command.refit_every is not None:
        version = version or version_to_use(command.versions, None)
    checkpoint = version.policy if version and command.policy in _OF_DTDRLMO else None
    choice = PolicyChoice(names=(command.policy,), checkpoint=checkpoint)
    (contender,), _ = contenders_for(choice, CECEnv(site.config), site.empty)
    return contender, version.load_lateness([site]) if version else no_lateness(site.config.num_nodes)


def _fallback(command: ServeCommand, site: Site) -> Contender:
    """A quick policy that decides when the other one is late: the scorer in place of a planner, otherwise a rule."""
    if command.policy not in _PLANNERS:
        return Contender.of_rule("eft", earliest_finish)
    (scorer,), _ = contenders_for(PolicyChoice(names=("dtdrlmo",)), CECEnv(site.config), site.empty)
    return scorer


async def _with_refits(serving: Coroutine[Any, Any, None], command: ServeCommand, site: Site, decider: Decider) -> None:
    """Serve, and let the decider use each new version of the policy."""
    assert command.refit_every is not None

    def use(version: Version) -> None:
        contender, lateness = _learned(command, site, version)
        decider.use(contender.params, lateness)

    refits = refit_regularly(command.log, command.versions, every=command.refit_every, use=use)
    async with asyncio.TaskGroup() as tasks:
        refitting = tasks.create_task(refits)
        await serving
        refitting.cancel()


def _extender(read: SiteFile, controller: Controller, decider: Decider) -> Extender | None:
    if read.kubernetes is None:
        return None
    names, resources = read.kubernetes.names, read.kubernetes.resources
    clock, lateness = controller.now, lambda: decider.lateness
    return Extender(controller.ledger, clock=clock, lateness=lateness, names=names, resources=resources)
