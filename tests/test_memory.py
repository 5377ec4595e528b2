from typing import NamedTuple

import numpy as np
import pytest

from mjoa_gym.world import memory

PARAMETERS = np.array([[10.0, 20.0, 30.0], [5.0, 5.0, 0.0]])
DNN = np.array([0, 1])


class Networks(NamedTuple):
    n_layers: np.ndarray
    parameter_bytes: np.ndarray
    owner: np.ndarray
    borrows: np.ndarray
    owns: np.ndarray
    owned_bytes: np.ndarray


def networks_of(sizes):
    """Networks whose layers of `sizes` (D, L) bytes all own their parameters."""
    count, width = sizes.shape
    owner, none = np.indices(sizes.shape), np.zeros(count, np.bool_)
    return Networks(np.full(count, width), sizes, owner, none, ~none, sizes)


def evict(resident, idle, memory_bytes):
    resident, idle = np.array(resident, dtype=float), np.array(idle)
    next_of = np.empty(2, np.int64)
    dropped, kept = memory.evict(
        resident, idle, DNN, networks_of(PARAMETERS), False, memory_bytes, next_of
    )
    assert kept == (resident * PARAMETERS[DNN]).sum() <= memory_bytes
    return resident.tolist(), dropped


def test_what_fits_stays():
    full = [[1, 1, 1], [1, 1, 0]]
    assert evict(full, np.zeros((2, 3), dtype=int), 70.0) == (full, 0.0)


def test_the_longest_unused_goes_first_whatever_its_size():
    idle = [[3, 0, 2], [1, 0, 0]]
    assert evict([[1, 1, 1], [1, 1, 0]], idle, 60.0) == ([[0, 1, 1], [1, 1, 0]], 10.0)
    assert evict([[1, 1, 1], [1, 1, 0]], idle, 59.0) == ([[0, 1, 0], [1, 1, 0]], 40.0)


def test_among_equals_the_biggest_then_the_later():
    same = np.zeros((2, 3), dtype=int)
    assert evict([[1, 1, 1], [1, 1, 0]], same, 69.0) == ([[1, 1, 0], [1, 1, 0]], 30.0)
    # a part counts as its bytes: 0.2 of 30 is less than 10
    assert evict([[1, 0, 0.2], [1, 1, 0]], same, 25.0) == ([[0, 0, 0.2], [1, 1, 0]], 10.0)
    assert evict([[0, 0, 0], [1, 1, 0]], same, 9.0) == ([[0, 0, 0], [1, 0, 0]], 5.0)
    assert evict([[0.5, 0, 0], [1, 0, 0]], same, 9.0) == ([[0.5, 0, 0], [0, 0, 0]], 5.0)


def test_no_memory_keeps_nothing():
    assert evict([[1, 1, 1], [1, 1, 0]], np.zeros((2, 3), dtype=int), 0.0)[1] == 70.0


def test_settling_counts_rounds_without_use():
    resident, idle = np.array([1.0, 0.5, 1.0, 0.0]), np.array([4, 4, 4, 4])
    placement = np.array([1, 0, 0, 0], dtype=np.int8)
    memory.settle(resident, idle, placement, np.array([0.0, 0.2, 0.0, 0.0]))
    # placed at the edge, uploaded to, neither, not there
    assert idle.tolist() == [0, 0, 5, 0]
    assert resident.tolist() == [1.0, 0.6, 1.0, 0.0]


@pytest.mark.parametrize("seed", range(20))
def test_many_layers_go_as_one_after_the_other_would(seed):
    rng = np.random.default_rng(seed)
    fractions = rng.choice([0.25, 1.0, rng.random()], (4, 30))
    resident = np.where(rng.random((4, 30)) < 0.7, fractions, 0.0)
    idle = np.where(resident > 0, rng.integers(0, 4, (4, 30)), 0).astype(np.int32)
    limit = rng.uniform(0.0, resident.sum())
    left, unused = resident.copy(), idle.copy()
    while left.sum() > limit:
        last = max(zip(*left.nonzero(), strict=True), key=lambda at: (unused[at], left[at], at))
        left[last], unused[last] = 0.0, 0
    networks, next_of = networks_of(np.ones((4, 30))), np.empty(4, np.int64)
    dropped, kept = memory.evict(resident, idle, np.arange(4), networks, False, limit, next_of)
    np.testing.assert_array_equal(resident, left)
    np.testing.assert_array_equal(idle, unused)
    assert kept == pytest.approx(left.sum())
    assert dropped > 0
