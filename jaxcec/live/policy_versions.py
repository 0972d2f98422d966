"""A folder with what was learned from logs: numbered versions, and a file that says which are current, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from jaxcec.agents import TrainedPolicy, save_policy
from jaxcec.env import EnvConfig
from jaxcec.files import write_json
from jaxcec.live.lateness import Lateness, load_lateness, save_lateness
from jaxcec.live.refit import Refit, Score

_CURRENT = "current.json"


class Version(NamedTuple):
    """The files that are current."""

    policy: Path
    lateness: Path | None = None  # None if none has helped yet

    def load_lateness(self, num_nodes: int) -> Lateness | None:
        """The lateness, for a site of so many edge nodes.

        Raises:
            ValueError: its file is damaged, or is of a site with another number of nodes.
        """
        return None if self.lateness is None else load_lateness(self.lateness, num_nodes)


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
        lateness = read.get("lateness")
        version = Version(folder / str(read["policy"]), None if lateness is None else folder / str(lateness))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({type(error).__name__}: {error}); name a version as `policy`") from None
    for path in filter(None, version):
        if not path.is_file():
            raise ValueError(f"{file}: names {path.name}, which is not there")
    return version


def settle(folder: Path, old: TrainedPolicy, found: Refit, sizes: EnvConfig) -> Version:
    """Make the refitted policy and the lateness the current version, each if it is better, or else keep the one before.

    The first call also keeps the policy as it was, as the first version. A version is written before it is named as
    the current one. One process at a time may write to a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    current = current_version(folder) or Version(_add_policy(folder, old, sizes))
    if found.better:
        current = current._replace(policy=_add_policy(folder, found.policy, sizes))
    if found.corrects:
        save_lateness(path := _next_path(folder, "lateness", "json"), found.lateness)
        current = current._replace(lateness=path)
    write_json(folder / _CURRENT, _named(current) | {"why": _why(found), "judged": _judged(found)})
    return current


def _named(version: Version) -> dict[str, str | None]:
    return {name: None if path is None else path.name for name, path in version._asdict().items()}


def _why(found: Refit) -> str:
    twin, lateness = ("better" if good else "not better" for good in (found.better, found.corrects))
    return (
        f"of {found.held_out} decisions that were not learned from, the twin refitted foresees the finishes {twin} "
        f"than before, and the mechanism with the lateness {lateness}"
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
