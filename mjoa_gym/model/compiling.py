"""Decorators for kernels, with the compiler options that make them quick to compile.

All of them are cached and let go of Python's lock. None has a C entrance, and a division by zero
gives what NumPy gives, no exception: both would have to be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.extending import register_jitable


def compiled(function: Callable[..., Any]) -> Any:
    """A kernel that Python calls."""
    return _compiled(function)


def inner(function: Callable[..., Any]) -> Any:
    """A kernel without an entrance from Python, which takes as long to compile as a small kernel.

    For what only kernels call: a call from Python ends the process.
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


def either(function: Callable[..., Any]) -> Any:
    """A function that kernels call compiled, and Python as it is; it allocates nothing.

    For what costs Python less than a call of a kernel, let alone its compilation.
    """
    return register_jitable(_nrt=False)(function)


def _compiled(function: Callable[..., Any], **options: bool) -> Any:
    always = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    return njit(**always, **options)(function)  # type: ignore[call-overload]
