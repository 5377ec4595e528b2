"""Several UEs against the simulator: what the report makes of the measurements, and the script."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from comparison.kept import COLD, RESIDENT  # noqa: E402
from comparison.mixes import MIXES, OURS, Part, RoundCell, RoundGrid, Rounds, RoundStore  # noqa: E402
from comparison.rounds_report import (  # noqa: E402
    EQUAL,
    LOCAL,
    errors,
    gains,
    objectives,
    orders,
    publish,
    totals,
    verdict,
)

from mjoa_gym.planners import planner_names  # noqa: E402
from mjoa_gym.testbed.namespace import shaped_namespace  # noqa: E402


def parts_of(
    planner: str,
    predicted: tuple[float, ...],
    measured: tuple[float, ...],
    scenario: str = COLD,
    number: int = 1,
    **changes: Any,
) -> list[Part]:
    """One round of the mix "twins", whose weights are 1, 2 and 1."""
    rows = []
    for ue, (model, weight) in enumerate(MIXES["twins"]):
        part = Part(
            "twins", 100.0, planner, scenario, number, ue, model, weight, "0101", 0.3, 0.3,
            predicted[ue], measured[ue], True, "", 0, planner, 0.02,
        )  # fmt: skip
        rows.append(replace(part, **changes))
    return rows


ALL = [
    *parts_of(LOCAL, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    *parts_of(EQUAL, (0.8, 0.8, 0.8), (0.9, 0.9, 0.9)),
    *parts_of(OURS, (0.5, 0.5, 0.5), (0.5, 0.6, 0.5)),
    *parts_of(OURS, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), number=2),
    *parts_of(OURS, (0.4, 0.4, 0.4), (0.4, 0.4, 0.4), RESIDENT),
    *parts_of(OURS, (0.3, 0.3, 0.3), (0.2, 0.2, 0.2), RESIDENT, number=2),
]


def cell(planner: str, scenario: str = COLD) -> RoundCell:
    return RoundCell("twins", 100.0, planner, scenario)


def test_objectives_are_weighted_sums() -> None:
    found = objectives(ALL)
    assert found[cell(OURS)] == [(2.0, 2.2), (2.0, 2.0)]
    assert totals(ALL)[cell(OURS)] == pytest.approx((2.0, 2.1))  # the median of repeats
    assert totals(ALL)[cell(OURS, RESIDENT)] == pytest.approx((2.8, 2.4))  # the sum of a row
    assert found[cell(EQUAL)][0].error == pytest.approx(-1 / 9)


def test_a_round_in_which_something_failed_has_no_objective() -> None:
    lost = [replace(ALL[0], failure="the server says: no"), *ALL[1:]]
    assert cell(LOCAL) not in objectives(lost)
    assert len(errors(lost)) == len(errors(ALL)) - 1


def test_gains_are_promised_and_measured() -> None:
    ((promised, measured),) = gains(ALL, EQUAL).values()
    assert promised == pytest.approx(1 - 2.0 / 3.2)
    assert measured == pytest.approx(1 - 2.1 / 3.6)
    assert not gains(ALL, "dads-serial")


def test_the_order_of_planners() -> None:
    (order,) = orders(ALL)
    assert (order.tau, order.best, order.regret) == (pytest.approx(1.0), OURS, 0.0)
    worse = [*ALL[:6], *parts_of(OURS, (0.5, 0.5, 0.5), (2.0, 2.0, 2.0))]
    (order,) = orders(worse)
    assert order.tau == pytest.approx(-1 / 3)
    assert order.regret == pytest.approx(8.0 / 3.6 - 1)
    (alike,) = orders(parts_of(LOCAL, (1.0, 1.0, 1.0), (1.0, 1.1, 1.0)))
    assert math.isnan(alike.tau)


@pytest.mark.parametrize("paced", [True, False])
def test_a_report_is_written_and_read_again(tmp_path: Path, paced: bool) -> None:
    pytest.importorskip("matplotlib")
    intervals = [("ue", "execute", 0, 0.0, 0.5)]
    half = {"latency_s": 0.5, "intervals": intervals}
    ue = {"model": "net", "predicted": half, "measured": half}
    timeline = {"mix": "twins", "rate_mbps": 100.0, "ues": [ue, ue]}
    late = [replace(ALL[0], overruns=1), *ALL[1:]]
    results = Rounds(RoundGrid(paced=paced), {"Cores": "2"}, late, {"net": {}}, timeline)
    report = publish(results, tmp_path, "make testbed-multi").read_text("utf-8")
    again = Rounds.load(tmp_path)
    assert again.parts == late
    assert again.grid == results.grid
    assert "gains 41.7 % over equal shares in reality; the simulator promised 37.5 %" in report
    assert ("1 of 72 layers (1.4 %) took longer than their slot" in report) is paced
    assert {path.name for path in tmp_path.glob("*.png")} == {"gains.png", "timelines.png"}
    assert "the planner gave no plan in time: 0" in verdict(results)
    with pytest.raises(ValueError, match="nothing was measured"):
        publish(Rounds(RoundGrid(), {}), tmp_path, "")


def test_other_comparisons_are_shown_beside_the_main_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page, grids = tmp_path / "page.md", {"all": RoundGrid(), "all-tc": RoundGrid(shaped_below=True)}
    page.write_text("<!-- testbed-multi-results:begin -->\n<!-- testbed-multi-results:end -->\n")
    for name, grid in reversed(grids.items()):
        publish(Rounds(grid, {}, ALL), tmp_path / name, "make testbed-multi", [page])
    (line,) = (line for line in page.read_text("utf-8").splitlines() if "all-tc" in line)
    link = "[`all-tc`](all-tc/report.md)"
    cells = [link, "the system", "stretched", "18", "0.0 %", "50.0 %"]
    cells += ["47.5 % (50.0 %)", "41.7 % (37.5 %)", ""]
    assert line == f"| {' | '.join(cells)} |"


def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    store = RoundStore(tmp_path, RoundGrid(mixes=("twins",)))
    store.keep(model="net", table={"ue_s": [0.1]})
    store.add(cell(LOCAL), ALL[:3])
    again = RoundStore(tmp_path, RoundGrid(mixes=("two",), rates_mbps=(10.0,)))
    assert again.done == {cell(LOCAL)}
    assert list(map(asdict, again.parts)) == list(map(asdict, ALL[:3]))
    assert again.tables == {"net": {"ue_s": [0.1]}}
    with pytest.raises(ValueError, match="holds results of another configuration"):
        RoundStore(tmp_path, RoundGrid(rounds=3))


def test_the_grid_is_what_was_promised() -> None:
    grid = RoundGrid()
    sizes = [len(MIXES[mix]) for mix in grid.mixes]
    assert len(sizes) >= 3
    assert (min(sizes), max(sizes)) == (2, 5)
    assert any(len({model for model, _ in mix}) < len(mix) for mix in MIXES.values())
    assert len({weight for mix in grid.mixes for _, weight in MIXES[mix]}) > 1
    assert len(grid.rates_mbps) >= 3
    assert set(grid.planners) <= set(planner_names())
    assert {LOCAL, EQUAL, "dads-serial", OURS, "mjoa-mu-prefetch"} <= set(grid.planners)
    cells = list(grid.cells("two"))
    assert len(cells) == len(set(cells))
    for changes in ({"mixes": ("none",)}, {"rates_mbps": (0.0,)}, {"repeats": 0}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            RoundGrid(**changes)  # type: ignore[arg-type]


@pytest.mark.slow
def test_links_of_several_ues_that_the_kernel_divides(tmp_path: Path) -> None:
    """One bottleneck for all UEs, and layers that are served in turns."""
    try:
        with shaped_namespace():
            pass
    except OSError as error:
        pytest.skip(str(error))
    command = [
        sys.executable, "scripts/testbed_multi.py", "--quick", "--tc", "--mixes", "twins",
        "--rates", "300", "--planners", "edge-only", "--residents", "--repeats", "1",
        "--compute", "fair", "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = Rounds.load(tmp_path)
    assert results.grid.shaped_below
    assert results.grid.compute == "fair"
    assert all(part.correct for part in results.parts)
    assert not any(part.failure for part in results.parts)
    assert len(results.parts) == 3
    assert all("0" not in part.placement for part in results.parts)
    layers = sum(len(part.placement) for part in results.parts)
    if sum(part.overruns for part in results.parts) < 0.02 * layers:  # the machine is quiet
        assert np.median(np.abs(errors(results.parts))) < 0.25


@pytest.mark.slow
def test_the_script_runs_a_small_grid_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    command = [
        sys.executable, "scripts/testbed_multi.py", "--quick", "--mixes", "twins", "--rates", "100",
        "--planners", EQUAL, OURS, "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parts = Rounds.load(tmp_path).parts
    assert all(part.correct for part in parts)
    assert not any(part.failure for part in parts)
    assert {part.ue for part in parts} == {0, 1, 2}
    assert {part.round for part in parts if part.scenario == RESIDENT} == {1, 2, 3, 4}
    assert np.median(np.abs(errors(parts))) < 0.1
    assert (tmp_path / "timelines.png").exists()
    before = (tmp_path / "measurements.csv").read_text()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "measurements.csv").read_text() == before


def test_the_pages_say_what_was_measured(tmp_path: Path) -> None:
    for kept in (ROOT / "results").glob("testbed-multi*"):
        shutil.copytree(kept, tmp_path / "results" / kept.name)
    folder = tmp_path / "results" / "testbed-multi"
    (tmp_path / "docs").mkdir()
    names = "README.md", "docs/results.md"
    pages = [Path(shutil.copy(ROOT / name, tmp_path / name)) for name in names]
    publish(Rounds.load(folder), folder, "make testbed-multi", pages)
    for name, page in zip(names, pages, strict=True):
        assert page.read_text("utf-8") == (ROOT / name).read_text("utf-8")
