"""The tidy CSV of a run: one row per setting, planner, seed and round."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

import numpy as np

from agents.benchmark.episode import KINDS
from agents.benchmark.store import Row
from agents.benchmark.suite import Cell, Suite

COLUMNS = (
    "sweep", "point", "x", "environment", "world", "planner", "seed", "round", "n_ues",
    "weighted_mean_s", "local_weighted_mean_s", "reward", "planning_s",
    "ue_mean_s", "ue_median_s", "ue_p95_s", "ue_max_s", "edge_share_per_dnn", "placement_kinds",
)  # fmt: skip
"""Of the CSV; a lower bound has neither reward nor placements. Shares per DNN are name=share."""


def rounds_csv(suite: Suite, rows: Iterable[tuple[Cell, Row]]) -> str:
    """All rows as CSV, in the order of the suite."""
    order = {cell: k for k, cell in enumerate(suite.cells())}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for cell, row in sorted(rows, key=lambda pair: (order[pair[0]], pair[1]["round"])):
        writer.writerow(_flat(suite, cell, row))
    return text.getvalue()


def _flat(suite: Suite, cell: Cell, row: Row) -> Row:
    sweep = suite.sweep(cell.sweep)
    flat: Row = {
        **cell._asdict(),
        "x": next(p.x for p in sweep.points if p.label == cell.point),
        "environment": sweep.environment,
        "round": row["round"],
        "weighted_mean_s": _digits(row["latency_s"]),
        "local_weighted_mean_s": _digits(row["local_s"]),
        "planning_s": _digits(row["planning_s"]),
    }
    if "ue_latency_s" not in row:
        return flat
    seconds = np.array(row["ue_latency_s"])
    shares = {d: [] for d in sorted(set(row["dnn"]))}  # type: dict[str, list[float]]
    for dnn, share in zip(row["dnn"], row["edge_share"], strict=True):
        shares[dnn].append(share)
    return flat | {
        "n_ues": len(seconds),
        "reward": _digits(row["reward"]),
        "ue_mean_s": _digits(seconds.mean()),
        "ue_median_s": _digits(np.median(seconds)),
        "ue_p95_s": _digits(np.percentile(seconds, 95)),
        "ue_max_s": _digits(seconds.max()),
        "edge_share_per_dnn": ";".join(f"{d}={np.mean(s):.4f}" for d, s in shares.items()),
        "placement_kinds": ";".join(f"{k}={row['kind'].count(i)}" for i, k in enumerate(KINDS)),
    }


def _digits(value: float) -> str:
    return f"{value:.9g}"
