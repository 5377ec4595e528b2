"""The optimum over all placements, by trying them all with the simulator's kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mjoa_gym import DNN
from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Inference, Upload, inference_of
from mjoa_gym.model.link import Link, link_at


@njit(nogil=True)
def best_of_all(inference, link):
    """The least latency over all 2^L placements."""
    n = len(inference.ue_s)
    scratch = kernel.new_scratch(n)
    placement = np.zeros(n, np.int8)
    best = np.inf
    for code in range(1 << n):
        for layer in range(n):
            placement[layer] = (code >> layer) & 1
        best = min(best, kernel.run(placement, inference, link, scratch)[1])
    return best


def dnn_of(case: dict[str, Any]) -> DNN:
    """The network of a case of `random_dnns`."""
    fields = ("flops", "parameter_bytes", "output_bytes", "predecessors", "input_bytes")
    return DNN("case", **{field: case[field] for field in fields})


def kernel_arguments(case: dict[str, Any]) -> tuple[Inference, Link]:
    """Inference and link of a case of `random_dnns`."""
    times = case["ue_seconds"], case["edge_seconds"]
    inference = inference_of(dnn_of(case), *times, case["resident"], Upload.of(case["upload"]))
    message_s = case.get("message_s", 0.0)
    return inference, link_at(case["uplink_bps"], case["downlink_bps"], message_s)
