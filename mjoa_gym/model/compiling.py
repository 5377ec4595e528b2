"""Decorators that compile kernels, with the compiler options that keep compilation short.

All compiled kernels are cached on disk and release Python's interpreter lock. Two things would cost
compile time, so they are left out: an entry point for C, and an exception for a division by zero. A
division by zero gives what NumPy gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.extending import register_jitable


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls."""
    return _compiled(function)


def inner(function: Callable[..., Any]) -> Any:
    """Compile a kernel without an entry point from Python.

    The entry point takes as long to compile as a small kernel. Use this decorator for functions
    that only kernels call: a call from Python ends the process.
    """
    return _compiled(function, no_cpython_wrapper=True)


def lean(function: Callable[..., Any]) -> Any:
    """Compile a kernel that allocates nothing, and leave out Numba's reference counts.

    Such a kernel receives its arrays in half the time and compiles in three quarters of the time.
    The same applies to the functions that it calls. Numba refuses to compile the kernel if it or
    one of these functions allocates memory.
    """
    return _compiled(function, _nrt=False)


def lean_inner(function: Callable[..., Any]) -> Any:
    """Compile a kernel that allocates nothing and that only kernels call (`lean` and `inner`)."""
    return _compiled(function, _nrt=False, no_cpython_wrapper=True)


def either(function: Callable[..., Any]) -> Any:
    """Mark a function that kernels call compiled and Python calls uncompiled; it allocates nothing.

    Use it for a function that Python executes in less time than the call of a kernel takes, not to
    mention the compilation.
    """
    return register_jitable(_nrt=False)(function)


def _compiled(function: Callable[..., Any], **options: bool) -> Any:
    always = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    return njit(**always, **options)(function)  # type: ignore[call-overload]
