"""Checks at the borders: a ValueError names the field, the value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def vector(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    """Return a read-only float64 copy of `values`, shape (n,), without NaN.

    Raises:
        ValueError: If the shape differs, or a value is not a number or is NaN.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}") from error
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}; ({n},) is needed, one entry each")
    _refuse(name, array, np.isnan(array), "must be a number")
    return frozen(array)


def non_negative_vector(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    """Do `vector`, and require every entry to be finite and at least 0."""
    array = vector(name, values, n)
    _refuse(name, array, ~np.isfinite(array) | (array < 0), "must be finite and >= 0")
    return array


def fraction_vector(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    """Do `vector`, and require every entry to be in [0, 1]; booleans are allowed."""
    array = vector(name, values, n)
    _refuse(name, array, (array < 0) | (array > 1), "must be in [0, 1]")
    return array


def binary_vector(name: str, values: ArrayLike, n: int) -> NDArray[np.int8]:
    """Return a read-only int8 copy of `values`, shape (n,), each 0 or 1; booleans are allowed."""
    array = vector(name, values, n)
    _refuse(name, array, (array != 0) & (array != 1), "must be 0 or 1")
    return frozen(array.astype(np.int8))


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Make `array` read-only and return it."""
    array.flags.writeable = False
    return array


def positive(name: str, value: float) -> float:
    """Return `value` as a float, finite and above 0."""
    number = non_negative(name, value)
    if number == 0:
        raise ValueError(f"{name}={value!r}: must be above 0")
    return number


def non_negative(name: str, value: float) -> float:
    """Return `value` as a float, finite and at least 0."""
    number = finite(name, value)
    if number < 0:
        raise ValueError(f"{name}={value!r}: must be finite and >= 0")
    return number


def zero_or_more(name: str, value: float) -> float:
    """Return `value` as a float at least 0, infinity included."""
    number = as_number(name, value)
    if not number >= 0:
        raise ValueError(f"{name}={value!r}: must be >= 0")
    return number


def positive_or_inf(name: str, value: float) -> float:
    """Return `value` as a float above 0, infinity included."""
    number = zero_or_more(name, value)
    if number == 0:
        raise ValueError(f"{name}={value!r}: must be above 0")
    return number


def as_number(name: str, value: float | str) -> float:
    """Return `value`, which may be a text, as a float."""
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name}: is too large") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={value!r}: must be a number") from error


def number(name: str, value: object) -> float:
    """Return `value` as a finite float; refuse texts and booleans, which `float` accepts."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name}={short(value)}: must be a number")
    return finite(name, value)  # type: ignore[arg-type]


def amount(name: str, value: object) -> float:
    """Do `number`, and require the value to be at least 0."""
    number(name, value)
    return non_negative(name, value)  # type: ignore[arg-type] # the message shows it as it is


def finite(name: str, value: float) -> float:
    """Return `value` as a float, not NaN or infinite."""
    number = as_number(name, value)
    if not np.isfinite(number):
        raise ValueError(f"{name}={value!r}: must be finite")
    return number


def fraction(name: str, value: float) -> float:
    """Return `value` as a float in [0, 1]."""
    number = finite(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}={value!r}: must be in [0, 1]")
    return number


def mapping(name: str, value: object) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, which JSON calls an object."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={short(value)}: must be an object")
    return value


def count(name: str, value: int) -> int:
    """Return `value` as an int, at least 1; 2.0 is refused like 2.5."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number >= 1")
    return int(value)


def at_most(low_name: str, low: float, high_name: str, high: float) -> None:
    """Raise a ValueError unless `low <= high`."""
    if low > high:
        raise ValueError(f"{low_name}={low!r}: must be at most {high_name}={high!r}")


def choice(name: str, value: str, allowed: Collection[str], remark: str = "") -> str:
    """Return `value` if it is `allowed`; the error ends with `remark` and the nearest of them."""
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise ValueError(f"{name}={value!r}: allowed are {list(allowed)}{remark}{hint}")
    return value


def short(value: object) -> str:
    """Return a value as a short text, because a file may hold anything, of any length."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a huge number"
    if isinstance(value, (list, tuple, Mapping)):
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(value: object, allowed: Collection[str]) -> str:
    """Return a hint about the nearest of the allowed names for an error; "" if none is near."""
    near = difflib.get_close_matches(str(value), allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _refuse(name: str, array: NDArray[np.float64], bad: NDArray[np.bool_], rule: str) -> None:
    if bad.any():
        index = int(np.argmax(bad))
        raise ValueError(f"{name}[{index}]={float(array[index])!r}: {rule}")
