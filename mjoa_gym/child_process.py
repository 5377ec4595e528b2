"""A Python process that a parent talks to through its standard input and output."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import BinaryIO

PR_SET_PDEATHSIG = 1


def command(module: str) -> list[str]:
    """Return the command of a process that finds the same modules and calls a module's `serve`."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import serve; serve()"
    return [sys.executable, "-c", code]


def environment() -> dict[str, str]:
    """Return the environment of such a process: one thread, unless the user has set another."""
    return {"OMP_NUM_THREADS": "1"} | os.environ


def channels() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams from and to the parent, in the process; call this first.

    Whatever else it prints goes to standard error. It ignores SIGINT, which the parent gets too,
    and ends with the parent, even if compiled code blocks all threads.
    """
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return incoming, outgoing
