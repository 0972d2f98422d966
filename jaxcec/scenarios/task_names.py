"""Task names of the Alibaba cluster trace v2018, which carry the DAG."""

from __future__ import annotations

import re
from typing import NamedTuple

# A DAG task: letters (which mean nothing), its number, the numbers it depends on, and suffixes that refer to no task.
_DAG_NAME = re.compile(r"[A-Za-z]+(\d{1,9})((?:_\d{1,9})*)(?:_Stg\d+)*")
_LONGEST = 50  # characters; longer names were cut, and one of exactly this length may have lost dependencies


class TaskName(NamedTuple):
    """What a task's name says."""

    number: int  # -1 if the name carries no DAG
    preds: tuple[int, ...]  # task numbers it depends on, each once
    fault: str  # why its job cannot be used, or ""


def parse_task_name(name: str) -> TaskName:
    """Parse one task name: `J4_2_3` is task 4, which depends on tasks 2 and 3."""
    if name.startswith("task_"):
        return TaskName(-1, (), "independent task")
    if name == "MergeTask":
        return TaskName(-1, (), "MergeTask")
    if len(name) >= _LONGEST or name.endswith("_"):
        return TaskName(-1, (), "name cut")
    match = _DAG_NAME.fullmatch(name)
    if match is None:
        return TaskName(-1, (), "name unknown")
    preds = dict.fromkeys(int(text) for text in match[2].split("_")[1:])
    return TaskName(int(match[1]), tuple(preds), "")
