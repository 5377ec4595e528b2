"""Decorators for kernels that need other compiler options than most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def inner(function: Callable[..., Any]) -> Any:
    """A kernel without an entrance from Python, which takes as long to compile as a small kernel.

    For kernels that take many arrays; they cannot be called from Python.
    """
    return _compiled(function, no_cpython_wrapper=True)


def lean(function: Callable[..., Any]) -> Any:
    """A kernel that allocates nothing, and so does without Numba's reference counts.

    It receives its arrays in half the time, and compiles in three quarters of it. So does what it
    calls; Numba refuses to compile it if anything there allocates.
    """
    return _compiled(function, _nrt=False)


def lean_inner(function: Callable[..., Any]) -> Any:
    """A kernel that is both."""
    return _compiled(function, _nrt=False, no_cpython_wrapper=True)


def _compiled(function: Callable[..., Any], **options: bool) -> Any:
    return njit(cache=True, nogil=True, **options)(function)  # type: ignore[call-overload]
