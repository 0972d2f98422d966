"""A folder with the versions of a policy, numbered, and a file that says which of them is current, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxcec.agents import TrainedPolicy, save_policy
from jaxcec.env import EnvConfig
from jaxcec.files import write_json
from jaxcec.live.refit import Refit, Score

_CURRENT = "current.json"


def current_policy(folder: Path) -> Path | None:
    """The file of the current version; None if the folder has no versions.

    Raises:
        ValueError: the folder is damaged.
    """
    file = folder / _CURRENT
    if not file.is_file():
        return None
    try:
        path = folder / str(json.loads(file.read_text())["policy"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({type(error).__name__}: {error}); name a version as `policy`") from None
    if not path.is_file():
        raise ValueError(f"{file}: names {path.name}, which is not there")
    return path


def settle(folder: Path, old: TrainedPolicy, found: Refit, sizes: EnvConfig) -> Path:
    """Make the refitted policy the current version if its twin is better, and else keep the one before.

    The first call also keeps the policy as it was, as the first version. A version is written before it is named as
    the current one. One process at a time may write to a folder.

    Returns:
        The file of the current version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    current = current_policy(folder) or _add(folder, old, sizes)
    if found.better:
        current = _add(folder, found.policy, sizes)
    better = "better" if found.better else "not better"
    why = f"the twin refitted foresees {found.held_out} decisions that it has not learned from {better} than before"
    scores = {name: _shown(getattr(found, name)) for name in ("mechanism", "before", "after")}
    judged = {"fitted": found.fitted, "held_out": found.held_out} | scores
    write_json(folder / _CURRENT, {"policy": current.name, "why": why, "judged": judged})
    return current


def _add(folder: Path, policy: TrainedPolicy, sizes: EnvConfig) -> Path:
    names = (path.stem.removeprefix("policy-") for path in folder.glob("policy-*.msgpack"))
    numbers = [int(name) for name in names if name.isdecimal()]
    path = folder / f"policy-{max(numbers, default=0) + 1:04}.msgpack"
    save_policy(path, policy, sizes)
    return path


def _shown(score: Score) -> dict[str, Any]:
    return score._asdict() | {"error": score.error._asdict()}
