"""Named tuples that kernels receive by reference."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import pytest
from numba.core.errors import TypingError
from numpy.typing import NDArray

from mjoa_gym.model.compiling import compiled, lean, lean_inner
from mjoa_gym.model.reference import Reference, by_reference, reference


@by_reference
class Inside(NamedTuple):
    """With an array."""

    values: NDArray[np.float64]
    factor: int


class Plain(NamedTuple):
    """Passed as its parts."""

    offset: float


@by_reference
class Outside(NamedTuple):
    """With tuples of both kinds."""

    inside: Inside
    plain: Plain
    marks: NDArray[np.float64]


@lean_inner
def scaled_sum(inside):
    """A sum over an array."""
    total = 0.0
    for k in range(len(inside.values)):
        total += inside.factor * inside.values[k]
    return total


@lean
def both_sums(outside):
    """The tuple's own, and that of one made here, in every turn of a loop another one."""
    total = scaled_sum(outside.inside)
    for k in range(3):
        made = reference(Inside(outside.marks, k))
        total += scaled_sum(made) + outside.plain.offset
    outside.marks[0] = total
    return total


@lean
def unknown(outside):
    """Asks for what is not there."""
    return outside.nothing


@compiled
def allocating(outside):
    """`both_sums` of a kernel that owns arrays itself, and reads some behind the reference."""
    own, part = np.ones(2), outside.inside.values[1:]
    made = reference(Inside(outside.marks[1:], 1))
    return own[0] + part[0] + made.values[0]


def outside_of(values: NDArray[np.float64]) -> Outside:
    """A tuple."""
    return Outside(Inside(values, 2), Plain(0.5), np.array([1.0, 2.0]))


def test_fields_are_read_and_arrays_written() -> None:
    outside = outside_of(np.arange(4.0))
    assert both_sums(outside) == 2 * 6.0 + (0 + 1 + 2) * 3.0 + 3 * 0.5
    assert outside.marks[0] == 22.5
    assert type(reference(outside)) is Outside  # in Python, the tuple itself


def test_one_compilation_serves_read_only_arrays_too() -> None:
    values = np.arange(4.0)
    values.setflags(write=False)
    assert both_sums(outside_of(values)) == both_sums(outside_of(np.arange(4.0)))
    assert len(both_sums.signatures) == 1
    assert isinstance(both_sums.signatures[0][0], Reference)


def test_types_of_arrays_tell_references_apart() -> None:
    whole = Outside(Inside(np.arange(4), 2), Plain(0.5), np.array([1.0, 2.0]))  # type: ignore[arg-type]
    names = {str(types[0]) for types in both_sums.signatures}
    assert both_sums(whole) == 22.5
    assert len({str(types[0]) for types in both_sums.signatures} | names) == 2


def test_arrays_are_let_go() -> None:
    outside = outside_of(np.arange(4.0))
    arrays = outside.inside.values, outside.marks
    before = [sys.getrefcount(each) for each in arrays]
    for _ in range(5):
        assert allocating(outside) == 1.0 + 1.0 + 2.0
        both_sums(outside)
        outside.marks[0] = 1.0
    assert [sys.getrefcount(each) for each in arrays] == before


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypingError, match="nothing"):
        unknown(outside_of(np.arange(4.0)))
