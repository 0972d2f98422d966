"""Starts a program that ends with the process that wants it and that belongs to control groups from its first moment.

    python -I -S launcher.py PARENT [FILE ...] -- PROGRAM [ARGUMENT ...]

PARENT is the process that wants it, and each FILE the `cgroup.procs` of a control group. A program of its own, because
code between fork and exec is unsafe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program."""
    middle = sys.argv.index("--")
    parent, files, program = int(sys.argv[1]), sys.argv[2:middle], sys.argv[middle + 1 :]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        sys.exit(1)
    for file in files:
        with open(file, "w") as procs:
            procs.write("0")
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(error.strerror)


if __name__ == "__main__":
    main()
