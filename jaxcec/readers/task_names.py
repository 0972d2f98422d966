"""Task names of the Alibaba cluster trace v2018, which encode the DAG of a job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# A DAG task: letters (without meaning), its number, the numbers it depends on, and suffixes that refer to no task.
_DAG_NAME = re.compile(r"[A-Za-z]+(\d{1,9})((?:_\d{1,9})*)(?:_Stg\d+)*", re.ASCII)
FAULTS = ("", "independent task", "MergeTask", "name cut", "name unknown")
_LONGEST = 50  # characters; longer names were cut, so a name of exactly this length may have lost dependencies


class TaskName(NamedTuple):
    """A parsed task name."""

    number: int  # -1 if the name encodes no DAG
    preds: tuple[int, ...]  # numbers of the tasks that it depends on, each once
    fault: str  # one of `FAULTS`: why the job cannot be used, or ""


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


class TaskNames:
    """The distinct task names of a trace, each with an integer code, and their parsed contents as arrays by code."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {}
        self._parsed: list[TaskName] = []

    def codes(self, names: Sequence[str]) -> np.ndarray:
        """Return the code of each name, (n,) i32; all independent tasks, with millions of names, share one."""
        short = ["task_" if name.startswith("task_") else name for name in names]
        for name in short:
            if name not in self._code:
                self._code[name] = len(self._parsed)
                self._parsed.append(parse_task_name(name))
        return np.array([self._code[name] for name in short], np.int32)

    @property
    def number(self) -> np.ndarray:
        """Task number of each code, i32; -1 if the name encodes none."""
        return np.array([name.number for name in self._parsed], np.int32)

    @property
    def fault(self) -> np.ndarray:
        """Position in `FAULTS` of each code, i8."""
        return np.array([FAULTS.index(name.fault) for name in self._parsed], np.int8)

    @property
    def num_preds(self) -> np.ndarray:
        """Number of predecessors of each code, i32."""
        return np.array([len(name.preds) for name in self._parsed], np.int32)

    @property
    def first_pred(self) -> np.ndarray:
        """Position in `preds` of the first predecessor of each code, i32."""
        return np.cumsum(self.num_preds, dtype=np.int32) - self.num_preds

    @property
    def preds(self) -> np.ndarray:
        """Task numbers of the predecessors, ordered by code, i32."""
        return np.array([pred for name in self._parsed for pred in name.preds], np.int32)
