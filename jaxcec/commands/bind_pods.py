"""`jaxcec-live bind`: bind the pods of a Kubernetes cluster to the nodes that a site's extender prefers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time

from jaxcec.checks import check_numbers
from jaxcec.commands.console import console
from jaxcec.live.server import HTTP_TOKEN


@dataclasses.dataclass(frozen=True)
class BindCommand:
    """Bind pods of a Kubernetes cluster whose `schedulerName` is this scheduler's, until told to end. The cluster is
    that of the current context of kubectl, or the one that this runs in. JAXCEC_LIVE_HTTP_TOKEN is sent to the site."""

    site: str = "http://127.0.0.1:8080"
    """Address of `jaxcec-live serve`, whose site has a section `kubernetes`."""
    scheduler: str = "jaxcec"
    """Name of this scheduler."""
    every: float = 1.0
    """Seconds between two looks at the pods that wait."""

    def __post_init__(self) -> None:
        check_numbers(self, "--", positive=("every",))
        if not self.site.startswith(("http://", "https://")):
            raise ValueError(f"--site: got {self.site!r}; must be an address that begins with http:// or https://")


def bind_pods(command: BindCommand) -> None:
    """Bind pods, and print what changes, until told to end.

    Raises:
        ImportError: the client library is not installed.
        ValueError: there is no configuration of a cluster.
    """
    try:
        from kubernetes import client, config
        from urllib3.exceptions import HTTPError

        from jaxcec.live.kubernetes_binder import asking, bind_waiting
    except ImportError as error:
        raise ImportError(f"{error}; binding pods needs its client: pip install 'jaxcec[kubernetes]'") from None
    try:
        config.load_config()
    except config.ConfigException as error:
        raise ValueError(f"kubernetes: no configuration of a cluster: {error}") from None
    core, ask = client.CoreV1Api(), asking(command.site, os.environ.get(HTTP_TOKEN, ""))
    told: dict[str, str] = {}
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                outcome = bind_waiting(core, ask, command.scheduler)
            except client.ApiException as error:
                outcome = {"nothing is bound": f"the API server answered {error.status} {error.reason}"}
            except HTTPError as error:
                outcome = {"nothing is bound": f"the API server does not answer ({type(error).__name__})"}
            for pod, what in outcome.items():
                if told.get(pod) != what:
                    console.print(f"{pod}: {what}", markup=False, highlight=False)
            told = outcome
            time.sleep(command.every)
