"""Random numbers inside kernels: one stream per environment, 64 bits of state each.

SplitMix64 (Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014) is a
counter and a hash. Any number of streams, seeded by NumPy's generator, can advance inside one
compiled loop, and an environment draws the same numbers alone and among a thousand others.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.compiling import lean

STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S30, S27, S31, S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def new_stream(rng: np.random.Generator) -> np.uint64:
    """Return the initial state of a stream, drawn from a generator."""
    return rng.integers(0, 1 << 64, dtype=np.uint64)


@lean
def fill_uniform(streams: NDArray[np.uint64], e: int, out: NDArray[np.float64]) -> None:
    """Fill `out` with the next uniforms in [0, 1) of stream `e`, with 53 random bits each."""
    state = streams[e]
    for i in range(len(out)):
        state += STEP
        bits = (state ^ (state >> S30)) * FIRST
        bits = (bits ^ (bits >> S27)) * SECOND
        out[i] = ((bits ^ (bits >> S31)) >> S11) * 2.0**-53
    streams[e] = state


@njit(cache=True, nogil=True)
def normal(first, second):
    """Return a standard normal number from two uniforms in [0, 1) (Box and Muller, 1958)."""
    return np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)
