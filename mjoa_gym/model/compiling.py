"""How kernels are compiled that only other kernels call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def inner(function: Callable[..., Any]) -> Any:
    """A kernel without an entrance from Python, which takes as long to compile as a small kernel.

    For kernels that take many arrays; they cannot be called from Python.
    """
    options = {"cache": True, "nogil": True, "no_cpython_wrapper": True}
    return njit(**options)(function)  # type: ignore[call-overload]
