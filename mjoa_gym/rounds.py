"""One round: every UE's inference under a decision, and what it leaves on the server."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym import kernel
from mjoa_gym.instance import link_with
from mjoa_gym.population import Population
from mjoa_gym.scenario import Scenario
from mjoa_gym.uploads import upload


class Decision(NamedTuple):
    """An agent's answer to one round, as padded arrays of N UEs and L layers.

    Attributes:
        placements: (N, L) int8, 0 = UE, 1 = edge; zeros after a UE's last layer.
        prefetch: (N, L) int8, 1 = upload in addition; zeros after a UE's last layer.
        bandwidth_share: (N,) each >= 0, summing to at most 1.
        compute_share: (N,) likewise.
    """

    placements: NDArray[np.int8]
    prefetch: NDArray[np.int8]
    bandwidth_share: NDArray[np.float64]
    compute_share: NDArray[np.float64]


class Outcome(NamedTuple):
    """What a decision leads to.

    Attributes:
        latency_s: (N,) seconds; inf if a share that is needed is zero (or next to it).
        local_s: (N,) seconds with every layer on the UE.
        round_s: How long the round lasts.
        resident: (N, L) resident fractions at the round's end.
    """

    latency_s: NDArray[np.float64]
    local_s: NDArray[np.float64]
    round_s: float
    resident: NDArray[np.float64]


def play(
    scenario: Scenario,
    population: Population,
    resident: NDArray[np.float64],
    decision: Decision,
    period_s: float,
) -> Outcome:
    """Play one round; changes nothing.

    Args:
        scenario: The setting.
        population: N UEs.
        resident: (N, L) resident fractions at the round's start.
        decision: The answer.
        period_s: The round lasts at least this long, and as long as the slowest inference.
    """
    mode = kernel.UPLOAD_MODES.index(scenario.upload)
    everybody = _Everybody(
        population.dnn,
        population.device,
        population.speed,
        population.snr_up,
        population.snr_down,
        resident,
    )
    return Outcome(
        *_play(scenario.tables, everybody, decision, scenario.bandwidth_hz, mode, period_s)
    )


def reward_of(outcome: Outcome, weight: NDArray[np.float64]) -> float:
    """`1 - sum_i w_i T_i / sum_i w_i T_i(local)`: 0 for doing nothing, always below 1."""
    return float(1.0 - (weight @ outcome.latency_s) / (weight @ outcome.local_s))


class _Everybody(NamedTuple):
    """What the kernel reads of the UEs (see `Population`), and what is resident."""

    dnn: NDArray[np.int64]
    device: NDArray[np.int64]
    speed: NDArray[np.float64]
    snr_up: NDArray[np.float64]
    snr_down: NDArray[np.float64]
    resident: NDArray[np.float64]


@njit(cache=True, nogil=True)
def _job(tables, everybody, i):
    """UE i's job, with the layers' times and missing bytes newly allocated."""
    d = everybody.dnn[i]
    n = tables.n_layers[d]
    edges = tables.offsets[d, n]
    return kernel.Job(
        tables.offsets[d, : n + 1],
        tables.predecessors[d, :edges],
        tables.is_sink[d, :n],
        tables.ue_s[d, everybody.device[i], :n] / everybody.speed[i],
        tables.edge_s[d, :n],
        tables.output_bytes[d, :n],
        tables.parameter_bytes[d, :n] * (1.0 - everybody.resident[i, :n]),
        tables.input_bytes[d],
    )


@njit(cache=True, nogil=True)
def _play(tables, everybody, decision, bandwidth_hz, mode, period_s):
    """`play` for arrays. Two passes: uploading goes on until the slowest inference is done."""
    n_ues, width = decision.placements.shape
    latency_s, local_s = np.empty(n_ues), np.zeros(n_ues)
    resident = everybody.resident.copy()
    sent, nothing = np.empty(width), np.empty((0, 3))
    scratch = kernel.new_scratch(width)
    round_s = period_s
    for uploads in (False, True):
        for i in range(n_ues):
            job = _job(tables, everybody, i)
            n = len(job.ue_s)
            link = link_with(
                bandwidth_hz, everybody.snr_up[i], everybody.snr_down[i],
                decision.bandwidth_share[i], decision.compute_share[i],
            )  # fmt: skip
            placement = decision.placements[i]
            n_up, seconds = kernel.run(placement, n, job, link, mode, scratch)
            if not uploads:
                latency_s[i] = seconds
                round_s = max(round_s, seconds)
                for layer in range(n):  # in the order of execution, so all-local is exactly 0
                    local_s[i] += job.ue_s[layer]
                continue
            upload(
                placement, decision.prefetch[i], n, job, link, mode, round_s, n_up, scratch, sent,
                nothing,
            )  # fmt: skip
            for layer in range(n):
                missing = 1.0 - resident[i, layer]
                resident[i, layer] = min(1.0, resident[i, layer] + missing * sent[layer])
    return latency_s, local_s, round_s, resident
