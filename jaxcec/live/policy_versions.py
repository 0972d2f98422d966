"""A folder with what was learned from logs: numbered versions, and a file that says which are current, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcec.agents import TrainedPolicy, save_policy
from jaxcec.env import EnvConfig
from jaxcec.files import write_json
from jaxcec.live.lateness import Lateness, load_lateness, no_lateness, save_lateness
from jaxcec.live.refit import Refit, Score
from jaxcec.live.site import Site

_CURRENT = "current.json"


class Version(NamedTuple):
    """The files that are current."""

    policy: Path
    lateness: Path | None = None  # None if finishes are foreseen best without

    def load_lateness(self, sites: Sequence[Site]) -> Lateness:
        """The lateness at some sites.

        Raises:
            ValueError: its file is damaged, or has terms of nodes of another site.
        """
        most = max(site.config.num_nodes for site in sites)
        return no_lateness(most) if self.lateness is None else load_lateness(self.lateness, sites, num_nodes=most)


def current_version(folder: Path) -> Version | None:
    """The current version; None if the folder has no versions.

    Raises:
        ValueError: the folder is damaged.
    """
    file = folder / _CURRENT
    if not file.is_file():
        return None
    try:
        read = json.loads(file.read_text())
        policy, lateness = str(read["policy"]), read.get("lateness")  # which older folders lack
        version = Version(folder / policy, None if lateness is None else folder / str(lateness))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({type(error).__name__}: {error}); name a version as `policy`") from None
    for path in filter(None, version):
        if not path.is_file():
            raise ValueError(f"{file}: names {path.name}, which is not there")
    return version


def settle(folder: Path, old: TrainedPolicy, found: Refit, sizes: EnvConfig) -> Version:
    """Make the refitted policy current if it is better, and else keep the one before; likewise the lateness, if any.

    The first call also keeps the policy as it was, as the first version. A version is written before it is named as
    the current one. One process at a time may write to a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    current = current_version(folder) or Version(_add_policy(folder, old, sizes))
    if found.better:
        current = current._replace(policy=_add_policy(folder, found.policy, sizes))
    if found.chosen == "refitted":
        save_lateness(path := _next_path(folder, "lateness", "json"), found.lateness, found.site)
        current = current._replace(lateness=path)
    elif found.chosen == "none":
        current = current._replace(lateness=None)
    write_json(folder / _CURRENT, _named(current) | {"why": _why(found), "judged": _judged(found)})
    return current


def _named(version: Version) -> dict[str, str | None]:
    return {name: None if path is None else path.name for name, path in version._asdict().items()}


def _why(found: Refit) -> str:
    twin = "better" if found.better else "not better"
    lateness = {"none": "without a lateness", "before": "with the lateness before", "refitted": "with the new lateness"}
    return (
        f"judged on {found.held_out} decisions that were not learned from: the twin refitted is {twin} than before; "
        f"the mechanism foresees finishes best {lateness[found.chosen]}"
    )


def _judged(found: Refit) -> dict[str, Any]:
    scores = {name: value for name, value in found._asdict().items() if isinstance(value, Score)}
    shown = {name: score._asdict() | {"error": score.error._asdict()} for name, score in scores.items()}
    return {"fitted": found.fitted, "held_out": found.held_out} | shown


def _add_policy(folder: Path, policy: TrainedPolicy, sizes: EnvConfig) -> Path:
    path = _next_path(folder, "policy", "msgpack")
    save_policy(path, policy, sizes)
    return path


def _next_path(folder: Path, kind: str, ending: str) -> Path:
    names = (path.stem.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*.{ending}"))
    numbers = [int(name) for name in names if name.isdecimal()]
    return folder / f"{kind}-{max(numbers, default=0) + 1:04}.{ending}"
