"""Reads ONNX files in a separate process, because files are not trusted.

This process reads only the file's structure (`onnx_file`) and imports no library for it. A child
process with limits on memory and time does the parsing and computing, and returns plain numbers and
texts as JSON. Starting the child and importing onnx take one to two seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import operator
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mjoa_gym.profiles.graph import warn_of_unknown
from mjoa_gym.profiles.onnx_file import read_structure

MAX_MEMORY_BYTES = 2 * 2**30  # of address space, including libraries
MAX_CPU_SECONDS = 60
MAX_SECONDS = 180  # until a child is killed, however little processor time it got
_LONGEST_MESSAGE = 600
_INSTALL = "pip install 'mjoa-gym[onnx]'"
_CHILD = """
import sys, types
sys.modules["mjoa_gym"] = types.ModuleType("mjoa_gym")  # without what the package imports first
sys.modules["mjoa_gym"].__path__ = [sys.argv[1]]
from mjoa_gym.profiles.onnx_process import answer
answer()
"""

Read = Sequence[Any]  # the columns of a DNN, and the operators whose cost is not known


def profile(
    path: str | os.PathLike[str],
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    stacklevel: int = 1,
    apart: bool = True,
) -> dict[str, Any]:
    """Return the arguments of the `DNN` of a file, at layer granularity.

    The arguments are those of `DNN.from_onnx`. Without `apart` no child is started, so the file
    must be trusted. A `stacklevel` of 1 makes warnings name the caller of this function.

    Raises:
        ImportError: If onnx or onnx-ir is missing, with how to install it.
        OSError: If the file cannot be opened or read.
        ValueError: If the file is invalid or not supported; names the file and the reason.
    """
    for package in ("onnx", "onnx_ir"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"{package} is needed: {_INSTALL}")
    file = Path(path)
    try:
        given = {str(key): _whole(key, sides) for key, sides in (input_shapes or {}).items()}
        read = _columns_apart if apart else columns_here
        columns, unknown = read(read_structure(file), str(file.parent), given, name or file.stem)
    except ValueError as error:
        reason = " ".join(str(error).split())
        if len(reason) > _LONGEST_MESSAGE:
            reason = reason[:_LONGEST_MESSAGE] + "..."
        raise ValueError(f"{os.fspath(path)}: {reason}") from error
    warn_of_unknown(unknown, stacklevel=stacklevel + 1)
    return columns


def _whole(name: str, given: Sequence[int]) -> tuple[int, ...]:
    field = f"input_shapes[{name!r}]={given!r}"
    try:
        shape = tuple(operator.index(side) for side in given)
    except TypeError as error:
        raise ValueError(f"{field}: must be a sequence of whole numbers") from error
    if any(side < 1 for side in shape):
        raise ValueError(f"{field}: must be whole numbers above 0")
    return shape


def columns_here(
    structure: bytes, folder: str, input_shapes: Mapping[str, Sequence[int]], name: str
) -> Read:
    """Do the work in this process; a ValueError says what is wrong with the structure."""
    from mjoa_gym.profiles.onnx_model import parse

    try:
        model = parse(structure)
        # These imports are slow, and a file that is refused does not need them.
        from mjoa_gym.profiles.fuse import as_columns, fuse
        from mjoa_gym.profiles.onnx_trace import trace_program
        from mjoa_gym.profiles.onnx_walk import walk

        shapes = {key: tuple(sides) for key, sides in input_shapes.items()}
        graph, unknown = trace_program(walk(model, Path(folder), shapes))
        return as_columns(name, fuse(graph), graph.input_bytes), unknown
    except (ImportError, ValueError):
        raise
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except MemoryError as error:
        raise ValueError("needs more memory than is allowed") from error
    except Exception as error:
        raise ValueError(f"cannot be read: {error!r}") from error


def _columns_apart(structure: bytes, *request: Any) -> Read:
    """Let a child do the same; it gets the structure and returns JSON."""
    limits = (MAX_MEMORY_BYTES, MAX_CPU_SECONDS)
    package = str(Path(__file__).parents[1])
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", _CHILD, package],
            input=json.dumps([limits, request]).encode() + b"\n" + structure,
            capture_output=True,
            timeout=MAX_SECONDS,
            env={**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"takes more than {MAX_SECONDS} s to read") from error
    if done.returncode == -getattr(signal, "SIGXCPU", 0):
        raise ValueError(f"takes more than {MAX_CPU_SECONDS} s of processor time to read")
    if done.returncode < 0:
        ended, memory = signal.Signals(-done.returncode).name, MAX_MEMORY_BYTES / 2**30
        raise ValueError(f"cannot be read: {ended} ended a process with {memory:.1f} GiB of memory")
    if done.returncode:
        reason = (done.stderr.decode("utf-8", "replace").splitlines() or ["no reason given"])[-1]
        raise ValueError(f"cannot be read: {reason}")
    fault, found = json.loads(done.stdout)
    if fault == "missing":
        raise ImportError(f"{found}: {_INSTALL}")
    if fault:
        raise ValueError(found)
    return found


def answer() -> None:
    """Read a request and a structure in the child, and write the answer as JSON."""
    limits, request = json.loads(sys.stdin.buffer.readline())
    _limit_this_process(*limits)
    answers = os.dup(1)
    os.dup2(2, 1)  # the output of libraries is not an answer
    try:
        found: Any = ("", columns_here(sys.stdin.buffer.read(), *request))
    except (ImportError, ValueError) as error:
        found = ("missing" if isinstance(error, ImportError) else "wrong", str(error))
    with open(answers, "w", encoding="ascii") as file:
        json.dump(found, file)


def _limit_this_process(memory_bytes: int, cpu_seconds: int) -> None:
    with contextlib.suppress(ImportError):  # Windows has no such limits: only the time is limited
        import resource

        limits = {"RLIMIT_AS": memory_bytes, "RLIMIT_CPU": cpu_seconds, "RLIMIT_CORE": 0}
        for limit, amount in limits.items():
            which = getattr(resource, limit)
            hard = resource.getrlimit(which)[1]
            amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
            with contextlib.suppress(ValueError, OSError):  # macOS does not accept every limit
                resource.setrlimit(which, (amount, hard))
