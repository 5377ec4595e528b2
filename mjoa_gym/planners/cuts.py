"""Single cuts in program order: layers before the cut on the UE, the others at the edge."""

from __future__ import annotations

import numpy as np
from numba import njit

from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Inference
from mjoa_gym.model.link import Link
from mjoa_gym.planners.one_ue import Placement


@njit(cache=True, nogil=True)
def cut_latencies(inference, link):
    """(L + 1,) latencies of the cuts k = 0 (all at the edge) to L (all on the UE).

    Every cut is simulated: O(L (L + edges)), on non-chain models too.
    """
    n = len(inference.ue_s)
    scratch = kernel.new_scratch(n)
    placement = np.ones(n, np.int8)
    latency = np.empty(n + 1)
    for cut in range(n + 1):
        latency[cut] = kernel.run(placement, inference, link, scratch)[1]
        if cut < n:
            placement[cut] = 0
    return latency


def best_cut(inference: Inference, link: Link) -> tuple[int, float]:
    """The cut of least latency and that latency; of equal ones, the cut that offloads least."""
    latency = cut_latencies(inference, link)
    cut = len(latency) - 1 - int(np.argmin(latency[::-1]))
    return cut, float(latency[cut])


def cut_placement(cut: int, n_layers: int) -> Placement:
    """Layers `< cut` on the UE, layers `>= cut` at the edge."""
    return (np.arange(n_layers) >= cut).astype(np.int8)
