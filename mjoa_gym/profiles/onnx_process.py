"""Reads ONNX files in a process of its own, since anybody can make a file.

This process looks at the file's structure only (`onnx_file`) and imports no library for it. What
parses and computes runs in a child with limits on memory and time, and hands back plain numbers and
texts as JSON. Starting it and importing onnx takes one to two seconds.
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

MAX_MEMORY_BYTES = 4 * 2**30
"""Of address space, libraries included."""
MAX_CPU_SECONDS = 60
MAX_SECONDS = 180
"""Until it is given up, however little of the processor it got."""
_LONGEST_MESSAGE = 600
_NEEDED = ("onnx", "onnx_ir")
_INSTALL = "pip install 'mjoa-gym[onnx]'"

Read = tuple[dict[str, Any], list[str]]
"""The columns of a DNN, and the operators whose cost is not known."""


def profile(
    path: str | os.PathLike[str],
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    stacklevel: int = 1,
    apart: bool = True,
) -> dict[str, Any]:
    """The arguments of the `DNN` of a file, at layer granularity.

    Args:
        path: The file.
        input_shapes: Shapes of inputs by name; they win over what the file says.
        name: Of the DNN; default: the file's name without its ending.
        stacklevel: For warnings: 1 is the caller of this function.
        apart: In a process of its own; without, a file's maker is trusted.

    Raises:
        ImportError: If onnx or onnx-ir is missing, with how to install it.
        OSError: If the file cannot be opened or read.
        ValueError: Naming the file and what is wrong with it, or what is not supported.
    """
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"{package} is needed: {_INSTALL}")
    path = Path(path)
    try:
        given = {str(key): _whole(key, sides) for key, sides in (input_shapes or {}).items()}
        read = _columns_apart if apart else columns_here
        columns, unknown = read(read_structure(path), str(path.parent), given, name or path.stem)
    except ValueError as error:
        reason = " ".join(str(error).split())
        if len(reason) > _LONGEST_MESSAGE:
            reason = reason[:_LONGEST_MESSAGE] + "..."
        raise ValueError(f"{path}: {reason}") from error
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
    """Does the work in this process.

    Raises:
        ValueError: Whatever is wrong with the structure.
    """
    from mjoa_gym.profiles.onnx_model import parse

    try:
        model = parse(structure)
        # What follows takes its time to import, and is not needed for a file that is refused.
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
        raise ValueError(f"needs more than {MAX_MEMORY_BYTES / 2**30:g} GiB of memory") from error
    except Exception as error:
        raise ValueError(f"cannot be read: {error!r}") from error


def _columns_apart(
    structure: bytes, folder: str, input_shapes: Mapping[str, Sequence[int]], name: str
) -> Read:
    """Has a child do the work; it gets the structure and gives back JSON."""
    request = json.dumps([folder, input_shapes, name]).encode() + b"\n" + structure
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-m", __name__],
            input=request,
            capture_output=True,
            timeout=MAX_SECONDS,
            env={**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"takes more than {MAX_SECONDS} s to read") from error
    if done.returncode:
        raise ValueError(_why(done.returncode, done.stderr.decode("utf-8", "replace")))
    answer = json.loads(done.stdout)
    if "missing" in answer:
        raise ImportError(f"{answer['missing']}: {_INSTALL}")
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["columns"], answer["unknown"]


def _why(status: int, stderr: str) -> str:
    """Why a child ended without an answer."""
    if status == -getattr(signal, "SIGXCPU", 0):
        return f"takes more than {MAX_CPU_SECONDS} s of processor time to read"
    if status < 0:
        return f"cannot be read: the process that did ended with {signal.Signals(-status).name}"
    return f"cannot be read: {(stderr.splitlines() or ['no reason given'])[-1]}"


def _limit_this_process() -> None:
    try:
        import resource
    except ImportError:  # Windows: only the time is limited
        return
    for which, amount in (
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(which)[1]
        amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS does not take every limit
            resource.setrlimit(which, (amount, hard))


def main() -> None:
    """The child: reads a request from standard input and writes the answer as JSON."""
    _limit_this_process()
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    folder, input_shapes, name = json.loads(sys.stdin.buffer.readline())
    try:
        columns, unknown = columns_here(sys.stdin.buffer.read(), folder, input_shapes, name)
        answer: dict[str, Any] = {"columns": columns, "unknown": unknown}
    except ImportError as error:
        answer = {"missing": str(error)}
    except ValueError as error:
        answer = {"error": str(error)}
    with open(answers, "w", encoding="ascii") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
