"""The comparison of measured with simulated latencies, and the code of its documentation."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from comparison import runner  # noqa: E402
from comparison.kept import COLD, CONDITIONS, RESIDENT, ROWS  # noqa: E402
from comparison.measurements import (  # noqa: E402
    JOINS,
    Grid,
    GridCell,
    Measurement,
    Measurements,
    MeasurementStore,
)
from comparison.report import (  # noqa: E402
    by_model_and_mode,
    choices,
    error_table,
    errors,
    measured,
    publish,
    summary,
    verdict,
)
from comparison.runner import ModelRun, Planned  # noqa: E402

from mjoa_gym import DNN, Plan, evaluate, simulate  # noqa: E402
from mjoa_gym.evaluation.page import items  # noqa: E402
from mjoa_gym.evaluation.progress import NoBar  # noqa: E402
from mjoa_gym.planners import plan_with  # noqa: E402
from mjoa_gym.testbed.executor import Executor  # noqa: E402
from mjoa_gym.testbed.measure import LayerTimes, predict  # noqa: E402
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402
from mjoa_gym.testbed.ue import MeasuredInference, UserEquipment  # noqa: E402

from .testbed_network import diamond  # noqa: E402


def row(
    planner: str = "a", predicted: float = 1.0, got: float = 1.0, **changes: object
) -> Measurement:
    plain = Measurement(
        model="net",
        rate_mbps=100.0,
        planner=planner,
        upload="parallel",
        scenario=COLD,
        query=1,
        placement="01",
        predicted_s=predicted,
        bytes_only_s=predicted,
        in_turn_s=predicted,
        own_times_s=got,
        measured_s=got,
        runs=1,
        same_as="",
        correct=True,
        failure="",
        overhead_bytes=10,
        noise=0.01,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_errors_are_relative_to_what_was_measured() -> None:
    e = errors([row(predicted=p, got=2.0) for p in (1.8, 2.0, 2.2, 2.6)])
    assert e.n == 4
    assert e.median == pytest.approx(0.1)
    assert e.worst == pytest.approx(0.3)
    assert e.bias == pytest.approx(0.075)
    assert errors([row(predicted=3.0, got=2.0)], "own_times_s").median == 0


def test_differences_below_the_machines_noise_are_no_verdict() -> None:
    for noise, good in ((0.01, False), (0.06, True)):
        rows = [
            row("a", 1.0, 1.1, noise=noise, placement="01"),
            row("b", 1.2, 1.0, noise=noise, placement="10"),
        ]
        (choice,) = choices(rows, ["parallel"])
        assert choice.regret == pytest.approx(0.1)
        assert choice.good is good


def test_a_report_says_whether_layers_were_paced() -> None:
    rows = [row(runs=5, overruns=1, noise=0.02)]
    free, paced = (verdict(rows, Grid(paced=paced)) for paced in (False, True))
    assert "Free: layers take what they take" in free
    assert "differ from their median by 2.0 %" in free
    assert "Paced: each layer" in paced
    assert "1 of 10 layers (10.0 %) took longer than their slot" in paced
    assert "aim: at most 2 %" in paced


def test_only_what_was_run_counts_and_each_once() -> None:
    nan = math.nan
    rows = [
        row(),
        row("b", same_as="a/parallel"),
        row("c", got=nan, own_times_s=nan),
        row("d", failure="the server says: no"),
    ]
    assert measured(rows) == rows[:1]
    groups = by_model_and_mode([*rows, row("e", placement="00"), row("f", scenario=RESIDENT)])
    assert {key: len(group) for key, group in groups.items() if key[0] == "net"} == {
        ("net", "parallel"): 1,
        ("net", "on the UE"): 1,
        ("net", "with residency"): 1,
        ("net", "all"): 3,
    }


def test_regret_is_what_the_simulators_favourite_costs_in_reality() -> None:
    rows = [
        row("a", predicted=1.0, got=1.2, placement="01"),
        row("b", predicted=1.1, got=1.0, placement="10"),
        row("c", predicted=3.0, got=3.0, placement="11"),
        row("skipped", predicted=99.0, got=math.nan, placement="00"),
    ]
    (choice,) = choices(rows, ["parallel"])
    assert choice.best == "a"
    assert choice.regret == pytest.approx(0.2)
    assert choice.planners == 3
    assert choice.tau == pytest.approx(1 / 3)
    (alone,) = choices(rows[:1], ["parallel"])
    assert math.isnan(alone.tau)
    assert alone.regret == 0


def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path, Grid())
    rows = [row("a", predicted=0.1 + 0.2), row("b", got=math.nan, failure='a, "b"\nc')]
    store.add([rows[0].cell], rows)
    store.keep(model="net", layer_times={"when": "before", "ue_s": [0.1]})
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"cells": [{"model": "net", "rate')  # killed while writing
    again = MeasurementStore(tmp_path, Grid(models=("another",)))
    assert again.rows[0] == rows[0]
    assert again.rows[1].failure == rows[1].failure
    assert math.isnan(again.rows[1].measured_s)
    assert again.layer_times == {"net": [{"when": "before", "ue_s": [0.1]}]}
    assert rows[0].cell in again.done
    assert GridCell("net", 10.0, "a", "parallel", COLD) not in again.done
    assert MeasurementStore(tmp_path, Grid(), fresh=True).rows == []


def test_measurements_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    MeasurementStore(tmp_path, Grid()).add([row().cell], [row()])
    for other in (Grid(ue_slowdown=5.0), Grid(shaped_below=True), Grid(queries=3)):
        with pytest.raises(ValueError, match="another configuration"):
            MeasurementStore(tmp_path, other)


def test_finished_results_do_not_keep_a_comparison_from_being_run_again(tmp_path: Path) -> None:
    Measurements(Grid(), {}, [row()], {"net": []}).save(tmp_path)
    store = MeasurementStore(tmp_path, Grid())
    assert row().cell not in store.done
    assert store.timeline is None


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    grid = Grid(models=("net",), ue_slowdown=3.0)
    rows = [row("a", predicted=0.1 + 0.2), row("b", failure='a, "b"\nc', correct=False)]
    written = Measurements(grid, {"Cores": "2"}, rows, {"net": [{"ue_s": [0.1]}]}, {"model": "net"})
    written.save(tmp_path)
    assert vars(Measurements.load(tmp_path)) == vars(written)
    Measurements(grid, {}, rows).save(tmp_path)
    assert Measurements.load(tmp_path).timeline is None


def test_the_readme_says_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "testbed"
    shutil.copytree(ROOT / "results" / "testbed", folder)
    (tmp_path / "docs").mkdir()
    names = "README.md", "docs/results.md"
    pages = [Path(shutil.copy(ROOT / name, tmp_path / name)) for name in names]
    report = publish(Measurements.load(folder), folder, "make testbed", pages)
    for name, page in zip(names, pages, strict=True):
        assert page.read_text("utf-8") == (ROOT / name).read_text("utf-8")
    assert report.read_text() == (ROOT / "results" / "testbed" / "report.md").read_text()
    for name in (CONDITIONS, ROWS):
        assert (folder / name).read_text() == (ROOT / "results" / "testbed" / name).read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates_mbps": (10.0, -5.0)}, "rates_mbps=-5"),
        ({"queries": 0}, "queries=0"),
        ({"cap_s": math.nan}, "cap_s=nan"),
        ({"ue_slowdown": 0.1}, "ue_slowdown=0.1"),
    ],
)
def test_grids_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(**changes)


def test_the_grid_is_what_was_promised() -> None:
    grid = Grid()
    assert len(grid.models) >= 5
    assert len(grid.rates_mbps) >= 4
    assert min(grid.rates_mbps) >= 10
    assert max(grid.rates_mbps) <= 300
    cells = list(grid.cells("net"))
    assert len(cells) == len(set(cells))
    assert {cell.upload for cell in cells} == {"serial", "parallel", "whole", "preinstalled"}
    assert {c.planner for c in cells if c.upload == "serial"} == set(grid.planners)
    assert sum(cell.scenario == RESIDENT for cell in cells) == 8


def toy_run(
    monkeypatch: pytest.MonkeyPatch, server: Any, store: MeasurementStore, links: Any
) -> ModelRun:
    """Of a network that needs no export."""
    network = diamond()
    toy = LayeredProgram(network), (torch.zeros(1, network.width),)
    monkeypatch.setattr(runner, "program_of", lambda _model, _files: toy)
    return ModelRun("toy", server, Executor(), store, links)


def test_seconds_in_which_the_machine_is_slow_favour_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(models=("toy",), rates_mbps=(300.0,), repeats=3)
    run = toy_run(monkeypatch, None, MeasurementStore(tmp_path, grid), None)
    n = run.dnn.n_layers
    run.times = LayerTimes(np.full(n, 0.01), np.full(n, 0.001), 0.001)
    run.expected = torch.zeros(1)
    executed: list[GridCell] = []

    async def plan(cell: GridCell, resident: Any = None) -> Planned:
        index = [JOINS, *grid.planners].index(cell.planner)
        at_edge = min(2 * index, n)  # in all upload modes
        return Planned(np.array([1] * at_edge + [0] * (n - at_edge)), resident, np.zeros(n))

    async def execute(cell: GridCell, planned: Planned) -> MeasuredInference:
        executed.append(cell)
        busy = 3.0 if len(executed) <= 3 else 1.0  # what the machine has beside this, at first
        latency_s = busy * run.predicted(cell, planned, run.times).latency
        return MeasuredInference(torch.zeros(1), latency_s, 0.0, (), None, (), np.zeros(n), 0)

    monkeypatch.setattr(run, "_plan", plan)
    monkeypatch.setattr(run, "_execute", execute)
    cells = [cell for cell in grid.cells(run.model) if cell.scenario == COLD]
    rows = asyncio.run(run.cold(cells, NoBar()))
    run.executor.close()
    assert [r.cell for r in rows] == cells
    plans = {r.cell: r for r in rows if not r.same_as}
    assert len(plans) > 3
    assert executed == 3 * list(plans)
    assert {r.runs for r in rows} == {3}
    assert all(r.measured_s == pytest.approx(r.predicted_s) for r in rows)
    assert all(c.regret == pytest.approx(0) for c in choices(rows, grid.uploads))


def test_messages_in_a_row_overlap_and_in_turn_they_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MeasurementStore(tmp_path, Grid(rates_mbps=(300.0,)))
    run = toy_run(monkeypatch, None, store, None)
    n = run.dnn.n_layers
    run.times = LayerTimes(np.full(n, 1e-6), np.full(n, 1e-6), 0.5)
    (cell,) = (c for c in store.grid.cells("toy") if c.planner == JOINS)
    planned = asyncio.run(run._plan(cell))
    run.executor.close()
    inputs = [len(read) for read in run.dnn.predecessors]
    assert planned.placement.tolist() == [int(k == 1) for k in inputs]
    row = run._row(cell, 1, planned)
    assert row.mode == JOINS
    assert replace(row, placement="1" * n).mode == "preinstalled"  # of a chain, without joins
    overlapping, in_turn = (
        (seconds - row.bytes_only_s) / run.times.message_s
        for seconds in (row.predicted_s, row.in_turn_s)
    )
    assert overlapping == pytest.approx(4, abs=1e-3)  # up, down, up, down
    assert in_turn == pytest.approx(4 + 1, abs=1e-3)  # two tensors come down for one layer


def test_a_message_costs_what_is_left_beside_the_rate_that_the_link_really_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Links:
        def shape(self, uplink_bps: float, downlink_bps: float) -> None:
            self.rates = (uplink_bps, downlink_bps)

    links, seen = Links(), []
    server = SimpleNamespace(token="t", host="127.0.0.1", port=1, certificate=None)
    run = toy_run(monkeypatch, server, MeasurementStore(tmp_path, Grid(shaped_below=True)), links)
    n = run.dnn.n_layers

    async def ue_s(*_arguments: Any) -> Any:
        return np.full(n, 0.01)

    async def edge_s(ue: UserEquipment, *_arguments: Any) -> Any:
        seen.append((links.rates, (ue.settings.uplink_bps, ue.settings.downlink_bps)))
        return np.full(n, 0.001), 0.001

    monkeypatch.setattr("mjoa_gym.testbed.measure.measure_ue", ue_s)
    monkeypatch.setattr("mjoa_gym.testbed.measure.measure_edge", edge_s)
    asyncio.run(run.measure("before"))
    run.executor.close()
    ((shaped, simulated),) = seen
    assert shaped == simulated


def test_a_report_is_written_with_its_figures(tmp_path: Path) -> None:
    dnn = DNN.load("alexnet")
    ones = np.ones(dnn.n_layers)
    shown = simulate(dnn, [1] * 5 + [0] * (dnn.n_layers - 5), ones, ones, 1e8, 1e8)
    part = {"latency_s": shown.latency, "intervals": shown.intervals}
    content = {"model": "alexnet", "rate_mbps": 100.0, "predicted": part, "measured": part}
    readme = tmp_path / "README.md"
    readme.write_text(
        "before\n<!-- testbed:begin -->\n<!-- testbed:end -->\n"
        "<!-- testbed-results:begin -->\n<!-- testbed-results:end -->\nafter\n"
    )
    rows = [row(p, predicted=q, placement=x) for p, q, x in (("a", 1.02, "01"), ("b", 1.5, "11"))]
    results = Measurements(Grid(), {}, rows, timeline=content)
    report = publish(results, tmp_path, "make testbed", [readme])
    text = report.read_text()
    for name in ("scatter.png", "timeline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert name in text
    assert error_table(rows).markdown() in text
    assert verdict(rows, Grid()) in readme.read_text()
    assert items(summary(rows, Grid())) in readme.read_text()
    assert readme.read_text().endswith("<!-- testbed-results:end -->\nafter\n")


def test_messages_are_charged_to_the_tensors_that_change_sides() -> None:
    dnn = DNN.load("resnet18")
    seconds = np.full(dnn.n_layers, 1e-3)
    for placement in ([0] * dnn.n_layers, [1] * dnn.n_layers):
        more, plain = (
            predict(
                LayerTimes(seconds, seconds, message_s).instance(
                    dnn, 50e6, 10e6, upload="preinstalled"
                ),
                placement,
            ).latency
            for message_s in (0.01, 0.0)
        )
        direct = simulate(
            dnn, placement, seconds, seconds, 50e6, 10e6, upload="preinstalled"
        ).latency
        assert plain == direct
        assert more - plain == pytest.approx(0.02 if any(placement) else 0.0)


@pytest.mark.parametrize("rates", [(50e6, 50e6), (50e6, 10e6), (math.inf, 1e9)])
def test_planners_are_told_what_messages_cost(rates: tuple[float, float]) -> None:
    """To and fro costs two messages: with dear ones a planner changes sides less often."""
    dnn = DNN.load("resnet18")
    seconds = np.full(dnn.n_layers, 1e-3)
    costly, plain = (
        LayerTimes(seconds, seconds / 10, message_s).instance(dnn, *rates, upload="preinstalled")
        for message_s in (0.01, 0.0)
    )
    placement = np.arange(dnn.n_layers) % 2
    everything = [[1.0], [1.0]]
    more = evaluate(costly, Plan([placement], *everything)) - evaluate(
        plain, Plan([placement], *everything)
    )
    assert more[0] > 0.1
    changes = [
        np.count_nonzero(np.diff(plan_with("mjoa-mu", instance).placements[0]))
        for instance in (costly, plain)
    ]
    assert changes[0] <= changes[1]


def test_the_documentations_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "testbed.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(block, {"__name__": "__main__"})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("failure: None" in line for line in lines)


@pytest.mark.slow
def test_the_script_runs_a_small_grid_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    command = [
        sys.executable, "scripts/testbed.py", "--quick", "--models", "squeezenet1_1", "--rates",
        "200", "--queries", "2", "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = Measurements.load(tmp_path).rows
    assert all(row.correct for row in rows if row.was_run)
    assert (tmp_path / "report.md").exists()
    before = (tmp_path / "measurements.csv").read_text()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "measurements.csv").read_text() == before
