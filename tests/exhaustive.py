"""The optimum over all placements, by trying them all with the simulator's kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mjoa_gym import DNN
from mjoa_gym.model import kernel
from mjoa_gym.model.simulator import make_job, seconds_per_byte


@njit(nogil=True)
def best_of_all(job, link, mode):
    """The least latency over all 2^L placements."""
    n = len(job.ue_s)
    scratch = kernel.new_scratch(n)
    placement = np.zeros(n, np.int8)
    best = np.inf
    for code in range(1 << n):
        for layer in range(n):
            placement[layer] = (code >> layer) & 1
        best = min(best, kernel.run(placement, n, job, link, mode, scratch)[1])
    return best


def dnn_of(case: dict[str, Any]) -> DNN:
    """The network of a case of `random_dnns`."""
    fields = ("flops", "parameter_bytes", "output_bytes", "predecessors", "input_bytes")
    return DNN("case", **{field: case[field] for field in fields})


def kernel_arguments(case: dict[str, Any]) -> tuple[kernel.Job, kernel.Link, int]:
    """Job, link and upload mode of a case of `random_dnns`."""
    job, _ = make_job(dnn_of(case), case["ue_seconds"], case["edge_seconds"], case["resident"])
    up, down = (seconds_per_byte(name, case[name]) for name in ("uplink_bps", "downlink_bps"))
    return job, kernel.Link(up, down, 1.0), kernel.UPLOAD_MODES.index(case["upload"])
