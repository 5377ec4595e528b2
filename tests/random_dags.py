"""Random DAGs in the styles that networks come in, for the planners' tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.random_dnns import random_dnn_arrays, random_predecessors, with_messages

STYLES = ("sparse", "dense", "skips", "branches", "many_sinks", "reads_input", "anything")


def predecessors_in_style(style: str, rng: np.random.Generator, n: int) -> list[list[int]]:
    """A DAG of `n` layers; several sinks in "many_sinks", "reads_input" and "anything"."""
    if style == "sparse":
        return _one_sink(random_predecessors(rng, n, p_input=0.0, p_extra=0.1))
    if style == "dense":  # every layer reads a stretch of the layers before it
        return [list(range(max(-1, b - int(rng.integers(1, 5))), b)) for b in range(n)]
    if style == "skips":  # a chain with residual connections
        rows = [{layer - 1} for layer in range(n)]
        for layer in range(2, n):
            if rng.random() < 0.5:
                rows[layer].add(int(rng.integers(max(-1, layer - 5), layer - 1)))
        return [sorted(row) for row in rows]
    if style == "branches":
        return _parallel_branches(rng, n)
    if style == "many_sinks":
        return random_predecessors(rng, n, p_input=0.1, p_extra=0.1, reach=n)
    if style == "reads_input":
        return random_predecessors(rng, n, p_input=0.6, p_extra=0.3)
    return random_predecessors(rng, n, p_extra=rng.uniform(0, 1), reach=int(rng.integers(1, n + 1)))


def _one_sink(rows: list[list[int]]) -> list[list[int]]:
    """Let the last layer read whatever nobody reads."""
    read = {p for row in rows for p in row}
    unread = [layer for layer in range(len(rows) - 1) if layer not in read]
    return [*rows[:-1], sorted({*rows[-1], *unread})]


def _parallel_branches(rng: np.random.Generator, n: int) -> list[list[int]]:
    """Forks into branches of unequal length, in turns or one after the other, then joins."""
    rows: list[list[int]] = []
    tips = [-1]
    while len(rows) < n:
        fork = tips if len(tips) == 1 else [len(rows)]
        if len(tips) > 1:
            rows.append(sorted(tips))  # the join
        tips = []
        for _ in range(int(rng.integers(2, 5))):
            tip = fork[0]
            for _ in range(int(rng.integers(1, 4))):
                if len(rows) < n - 1:
                    rows.append([tip])
                    tip = len(rows) - 1
            if tip != fork[0] or rng.random() < 0.3:
                tips.append(tip)
        tips = sorted(set(tips)) or [len(rows) - 1]
        if len(rows) == n - 1:
            rows.append(tips)
    return rows


def random_dag_case(
    seed: int,
    max_layers: int,
    style: str | None = None,
    upload: str | None = None,
    messages: bool = False,
) -> dict[str, Any]:
    """One inference to plan (keys as in `random_dnns.random_case`, without a placement)."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, max_layers + 1))
    case = random_dnn_arrays(rng, n)
    case["predecessors"] = predecessors_in_style(style or str(rng.choice(STYLES)), rng, n)
    resident = rng.choice([0.0, 0.5, 1.0], size=n) if rng.random() < 0.3 else np.zeros(n)
    up, down = 10.0 ** rng.uniform(5.5, 8.5, size=2)
    modes = ("parallel", "serial", "whole", "preinstalled")
    drawn = case | {
        "uplink_bps": up,
        "downlink_bps": down,
        "resident": resident,
        "upload": upload or modes[seed % 4],
    }
    return drawn | with_messages(rng) if messages else drawn
