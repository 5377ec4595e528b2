"""How kernels are compiled that allocate nothing.

They do without Numba's reference counts (`_nrt=False`): so they take half as long to receive their
arrays, and a quarter less to compile. What they call is compiled in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

OPTIONS = {"cache": True, "nogil": True, "_nrt": False}


def lean(function: Callable[..., Any]) -> Any:
    """A kernel that allocates nothing."""
    return njit(**OPTIONS)(function)  # type: ignore[call-overload]


def inner(function: Callable[..., Any]) -> Any:
    """A kernel that only kernels call, without an entrance from Python; it allocates nothing.

    For kernels that take many arrays: the entrance takes as long to compile as a small kernel.
    """
    return njit(**OPTIONS, no_cpython_wrapper=True)(function)  # type: ignore[call-overload]
