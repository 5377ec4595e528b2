"""`mjoa-gym explore`: what it prints and writes, and how it fails."""

import csv
import json

import numpy as np
import pytest

from mjoa_gym import DNN, simulate
from mjoa_gym.cli.main import main
from mjoa_gym.devices import load_device
from mjoa_gym.model.inference import UPLOAD_MODES
from tests.one_ue_pages import embedded

pytest.importorskip("plotly", reason="needs the extra `explore`")

PLANNERS = ["local-only", "edge-only", "dads-serial", "mjoa-mu"]
COMMAND = [
    "explore", "--model", "alexnet", "--ue", "odroid-xu4", "--edge", "server-gpu",
    "--uplink-mbps", "40",
    "--downlink-mbps", "80", "--points", "3", "--resident", "0-2,5", "--planners", *PLANNERS,
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("explore")
    assert main([*COMMAND, "--out", str(out)]) == 0
    return out


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected(placement, upload, mbps=40.0, speed=1.0):
    dnn = DNN.load("alexnet")
    phone, server = (load_device(name).seconds(dnn) for name in ("odroid-xu4", "server-gpu"))
    resident = np.isin(np.arange(dnn.n_layers), [0, 1, 2, 5])
    return simulate(
        dnn, placement, phone, server / speed, mbps * 1e6, 2 * mbps * 1e6, resident, upload
    )


def test_the_files_hold_what_the_plans_take(finished):
    placements = rows(finished / "placements.csv")
    assert [row["name"] for row in placements] == list(DNN.load("alexnet").layer_names)
    planners = rows(finished / "planners.csv")
    assert {(r["upload"], r["planner"]) for r in planners} == {
        (mode, name) for mode in UPLOAD_MODES for name in PLANNERS
    }
    for row in planners:
        if row["upload"] == "parallel":
            sides = [placed[row["planner"]] == "edge" for placed in placements]
            timeline = expected(sides, "parallel")
            assert float(row["latency_s"]) == pytest.approx(timeline.latency, rel=1e-9)
            assert int(row["edge_layers"]) == sum(sides)


def test_the_page_has_the_same_timelines_as_the_table(finished):
    data = embedded((finished / "explore.html").read_text("utf-8"))
    latencies = {
        tuple(v["choice"]): data["timelines"][v["timeline"]]["latency"] for v in data["views"]
    }
    written = {(row["upload"], row["planner"]): row for row in rows(finished / "planners.csv")}
    kept = {choice: s for choice, s in latencies.items() if choice not in written}
    assert {choice: latencies[choice] for choice in written} == {
        choice: float(row["latency_s"]) for choice, row in written.items()
    }
    best = [row["mjoa-mu"] == "edge" for row in rows(finished / "placements.csv")]
    assert kept == {
        (mode, "mjoa-mu, plan for parallel"): pytest.approx(expected(best, mode).latency)
        for mode in UPLOAD_MODES
    }
    assert data["views"][0]["choice"][0] == "parallel"
    assert data["compare_with"][0] == "serial"


def test_the_curves_span_the_grid_and_scale_both_directions(finished):
    table = rows(finished / "bandwidth.csv")
    mbps, *names = table[0]
    assert [float(row[mbps]) for row in table] == pytest.approx([1, 1000**0.5, 1000])
    assert names == [f"{name} (s)" for name in PLANNERS]
    all_edge = [1] * DNN.load("alexnet").n_layers
    for row in table:
        there = expected(all_edge, "parallel", float(row[mbps])).latency
        assert float(row["edge-only (s)"]) == pytest.approx(there, rel=1e-9)
    speed, *_ = rows(finished / "server_speed.csv")[0]
    for row in rows(finished / "server_speed.csv"):
        there = expected(all_edge, "parallel", speed=float(row[speed])).latency
        assert float(row["edge-only (s)"]) == pytest.approx(there, rel=1e-9)


def test_the_figures_are_pictures_and_on_the_page(finished):
    page = (finished / "explore.html").read_text("utf-8")
    for name in ("bandwidth", "server_speed"):
        assert (finished / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert page.count('src="data:image/png;base64,') == 2
    assert "mjoa-mu takes" in page


def test_the_terminal_shows_the_answer(tmp_path, capsys):
    assert main([*COMMAND, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].startswith("alexnet on odroid-xu4 with server-gpu: ")
    assert "40 Mbit/s up, 80 Mbit/s down" in lines[0]
    assert "MB there already" in lines[0]
    table = {line.split()[0]: line for line in lines if line.split()[:1]}
    local = expected([0] * DNN.load("alexnet").n_layers, "parallel").latency
    assert f"{local * 1e3:.0f} ms" in table["local-only"]
    assert "mjoa-mu takes" in printed
    assert str(tmp_path / "explore.html") in printed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--model", "alexnett"], ["alexnett", "did you mean 'alexnet'"]),
        (["--model", "no.such.module:net"], ["model='no.such.module:net'", "No module"]),
        (["--model", "missing.onnx"], ["onnx"]),
        (["--ue", "toaster"], ["toaster", "odroid-xu4"]),
        (["--edge", "missing.csv"], ["missing.csv"]),
        (["--uplink-mbps", "0"], ["uplink_mbps=0.0", "above 0"]),
        (["--uplink-mbps", "nan"], ["uplink_mbps=nan", "finite"]),
        (["--downlink-mbps", "-3"], ["downlink_mbps=-3.0"]),
        (["--points", "0"], ["points=0", ">= 1"]),
        (["--resident", "3-99"], ["3-99", "allowed are layers 0-"]),
        (["--resident", "first"], ["resident='first'", "0-9,12"]),
        (["--resident", "5-2"], ["5-2"]),
        (["--planners", "magic"], ["planner='magic'", "mjoa-mu"]),
    ],
)
def test_bad_input_ends_with_one_line_and_status_1(changes, words, tmp_path, capsys):
    assert main([*COMMAND, "--out", str(tmp_path), *changes]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mjoa-gym explore: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert list(tmp_path.iterdir()) == []


def test_a_measured_table_is_a_device(tmp_path):
    seconds = [0.01] * DNN.load("alexnet").n_layers
    table = tmp_path / "mine.json"
    table.write_text(json.dumps({"name": "mine", "tables": {"alexnet": seconds}}))
    out = tmp_path / "out"
    assert main([*COMMAND, "--ue", str(table), "--out", str(out)]) == 0
    local = next(r for r in rows(out / "planners.csv") if r["planner"] == "local-only")
    assert float(local["latency_s"]) == pytest.approx(sum(seconds))
