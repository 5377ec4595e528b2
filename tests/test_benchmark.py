"""The benchmark end to end on a tiny suite, its statistics, and what survives a kill."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.benchmark.comparison import against_strongest
from agents.benchmark.mechanism import find_example
from agents.benchmark.publish import publish
from agents.benchmark.report import LEARNED, Section, update_readme
from agents.benchmark.runner import CellError, run
from agents.benchmark.statistics import Results
from agents.benchmark.store import FILE, Store
from agents.benchmark.suite import Cell, load_suite, suite_from
from agents.benchmark.tables import Table, headline
from mjoa_gym.planners import planner_names
from scripts import benchmark
from tests.one_ue_pages import embedded

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
TINY = {
    "name": "tiny",
    "about": "A test.",
    "ours": "single-cut",
    "reference": "local-only",
    "earlier": ["neurosurgeon", "dads-serial"],
    "first_seed": 7,
    "timed_ues": [1, 2],
    "timed_dnns": ["alexnet"],
    "seeds": 2,
    "rounds": 2,
    "worlds": ["parallel", "serial"],
    "planners": ["local-only", "neurosurgeon", "dads-serial", "single-cut"],
    "scenario": {"n_ues": 2, "dnns": ["alexnet", "nin"]},
    "sweeps": {
        "bandwidth": {
            "title": "Bandwidth",
            "label": "MHz",
            "fields": ["bandwidth_hz"],
            "scale": 1e-6,
            "values": [20_000_000, 80_000_000],
        },
        "mix": {"points": {"nin": {"dnns": ["nin"]}}, "seeds": 1},
        "streaming": {"environment": "streaming", "points": {"base": {}}, "seeds": 1},
        "ablation": {
            "kind": "ablation",
            "points": {"base": {}},
            "worlds": ["parallel"],
            "planners": ["local-only", "single-cut", "single-cut+demand"],
        },
    },
}


MORE = Section("Some more", [("a caption", b"a picture")], [Table("", ("agent",), [("ppo",)])])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny")
    suite = suite_from(TINY)
    store = Store(out, suite)
    run(suite, store, processes=1, progress=False)
    readme = out / "README.md"
    readme.write_text(f"# Title\n{BEGIN}\nold numbers\n{END}\nrest\n")
    report = publish(suite, store, out, "make benchmark SUITE=tiny", readme, [MORE])
    return suite, store, out, report.read_text("utf-8")


def without_times(store):
    return {
        cell: [{k: v for k, v in row.items() if k != "planning_s"} for row in rows]
        for cell, rows in store.rows.items()
    }


def test_every_cell_and_round_is_in_the_csv(finished):
    suite, _, out, _ = finished
    with (out / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(list(suite.cells()))
    for row in rows:
        assert 0 < float(row["weighted_mean_s"]) < np.inf
        ratio = float(row["weighted_mean_s"]) / float(row["local_weighted_mean_s"])
        assert float(row["reward"]) == pytest.approx(1 - ratio, rel=1e-7, abs=1e-7)
    local = [r for r in rows if r["planner"] == "local-only"]
    assert all(float(r["reward"]) == 0 for r in local)
    assert all(r["placement_kinds"].startswith("all on the UE=2;") for r in local)


def test_seeds_are_paired(finished):
    suite, store, _, _ = finished
    local = {}
    for cell, row in store:
        if cell.sweep != "streaming":
            local.setdefault((cell.sweep, cell.seed, row["round"]), set()).add(row["local_s"])
    bandwidth = [found for (sweep, *_), found in local.items() if sweep == "bandwidth"]
    assert all(len(found) == 1 for found in bandwidth)
    assert len(set.union(*bandwidth)) == len(bandwidth)
    assert against_strongest(Results(suite, store), suite.sweeps[:1], "serial") is not None


def test_report_stands_alone(finished):
    suite, _, out, page = finished
    assert page.count("<table>") > 8
    assert page.count('src="data:image/png;base64,') >= 8
    for outside in ('src="http', 'href="', "<script", str(ROOT), str(out)):
        assert outside not in page.replace('<a href="timeline.html">', "")
    for text in ("64.5 %", "make benchmark SUITE=tiny", "numpy", *headline_words(page)):
        assert text in page
    assert "<h2>Some more</h2>" in page
    assert "a caption" in page
    assert "<td>ppo</td>" in page
    names = {f.stem for f in (out / "figures").glob("*.svg")}
    assert names == {f.stem for f in (out / "figures").glob("*.png")}
    assert {s.name for s in suite.sweeps} <= names
    assert {"edge_share", "diversity", "serial_against_parallel", "streaming_rounds"} <= names


def headline_words(page):
    return ("strongest earlier system", "largest reduction", "single instance")


def test_readme_table_replaced_and_the_rest_kept(finished):
    text = (finished[2] / "README.md").read_text()
    assert text.startswith(f"# Title\n{BEGIN}\n")
    assert text.endswith(f"{END}\nrest\n")
    assert "old numbers" not in text
    assert "| Bandwidth |" in text


@pytest.mark.parametrize("text", ["nothing", f"{END} {BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_readme_without_markers_is_refused(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"README.md needs one line"):
        update_readme(path, "new")
    assert path.read_text() == text


def test_a_readme_has_several_parts(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"{BEGIN}{END}<!-- learned:begin -->old<!-- learned:end -->")
    update_readme(path, "new", LEARNED)
    assert path.read_text() == f"{BEGIN}{END}<!-- learned:begin -->\nnew\n<!-- learned:end -->"


def test_processes_give_the_same_results_and_continue(finished, tmp_path):
    suite, reference, _, _ = finished
    store = Store(tmp_path, suite)
    cells = list(suite.cells())
    for cell in cells[:-5]:
        store.add(cell, reference.rows[cell])
    run(suite, store, processes=2, progress=False)
    assert without_times(store) == without_times(reference)
    assert without_times(Store(tmp_path, suite)) == without_times(reference)


def test_goes_on_after_kill_9(tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({**TINY, "seeds": 12}))
    out, suite = tmp_path / "out", load_suite(config)
    command = [sys.executable, "scripts/benchmark.py", "--suite", config, "--out", out]
    settings = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    process = subprocess.Popen(command, **settings, stderr=subprocess.DEVNULL)
    file = out / FILE
    wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") > 12)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    done = Store(out, suite)
    assert 12 <= len(done.rows) < len(list(suite.cells()))
    before = file.read_bytes()
    with file.open("ab") as torn:
        torn.write(b'{"cell": ["bandwidth", "20", "parallel", "loc')  # as if killed while writing
    subprocess.run(command, **settings, check=True, capture_output=True)
    assert file.read_bytes().startswith(before)
    assert (out / "report.html").exists()
    whole = Store(tmp_path / "whole", suite)
    run(suite, whole, processes=1, progress=False)
    assert without_times(Store(out, suite)) == without_times(whole)


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid):
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return listing.read_text().split() if listing.exists() else []


def test_another_configuration_or_code_is_refused(tmp_path, monkeypatch):
    other = suite_from({**TINY, "rounds": 3})
    Store(tmp_path, other)  # without a result, nothing can be mixed
    Store(tmp_path, suite_from(TINY)).add(Cell("a", "b", "c", "d", 0), [])
    Store(tmp_path, suite_from(TINY))
    with pytest.raises(ValueError, match=r"another configuration.*--fresh.*--out"):
        Store(tmp_path, other)
    Store(tmp_path, other, fresh=True).add(Cell("a", "b", "c", "d", 0), [])
    monkeypatch.setattr("agents.benchmark.store.code_fingerprint", lambda: "newer")
    with pytest.raises(ValueError, match="another version of the code"):
        Store(tmp_path, other)


def test_command_line(tmp_path, capsys):
    config = tmp_path / "broken.yaml"
    config.write_text(yaml.safe_dump({**TINY, "earlyer": []}))
    assert benchmark.main(["--suite", str(config), "--out", str(tmp_path)]) == 1
    assert "did you mean 'earlier'?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        benchmark.main(["--help"])
    assert end.value.code == 0
    assert "--fresh" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planners": ["local-only", "single-cuts"]}, "did you mean 'single-cut'?"),
        ({"seeds": 0}, "seeds=0"),
        ({"worlds": ["paralel"]}, "did you mean 'parallel'?"),
        ({"scenario": {"n_uess": 1}}, "did you mean 'n_ues'?"),
        ({"ours": "ionn"}, "planners lacks ['ionn']"),
        ({"sweeps": {}}, "sweeps is empty"),
        ({"sweeps": {"a": {"fields": ["n_ues"]}}}, "sweep a: either"),
        ({"sweeps": {"a": {"fields": ["n_ues"], "values": [1, 1]}}}, "same label"),
        ({"sweeps": {"a": {"points": {"x": {}}, "kind": "swep"}}}, "did you mean 'sweep'?"),
    ],
)
def test_wrong_suites_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        suite_from({**TINY, **changes})
    assert message in str(error.value)


def test_a_failing_cell_is_named_and_the_others_kept(tmp_path, monkeypatch):
    suite = suite_from(TINY)
    store = Store(tmp_path, suite)
    calls = []

    def play(sweep, cell):
        calls.append(cell)
        if len(calls) == 3:
            raise ArithmeticError("no way")
        return [{"round": 0}]

    monkeypatch.setattr("agents.benchmark.runner.play", play)
    with pytest.raises(CellError, match=r"bandwidth/20/parallel/dads-serial/7: Arithm.*no way"):
        run(suite, store, processes=1, progress=False)
    assert len(Store(tmp_path, suite).rows) == 2


def test_shipped_suites_are_valid_and_differ_only_in_size(monkeypatch):
    ours = ("mjoa-mu", "mjoa-mu-prefetch", "oracle")
    known = dict.fromkeys((*planner_names(), *ours))
    monkeypatch.setattr("agents.benchmark.suite.planner_names", lambda: tuple(known))
    quick, full = (load_suite(benchmark.SUITES / f"{name}.yaml") for name in ("quick", "full"))
    assert [s.name for s in quick.sweeps] == [s.name for s in full.sweeps]
    assert quick.earlier == full.earlier
    assert len(list(full.cells())) > 5 * len(list(quick.cells()))


def test_summary_against_numpy(finished):
    suite, store, _, _ = finished
    sweep = suite.sweep("bandwidth")
    found = Results(suite, store).summary(sweep, "20", "parallel", "single-cut")
    seconds = [
        row["latency_s"]
        for cell, row in store
        if cell[:4] == ("bandwidth", "20", "parallel", "single-cut")
    ]
    assert found.mean.value == pytest.approx(np.mean(seconds))
    assert found.median == pytest.approx(np.median(seconds))
    assert found.p95 == pytest.approx(np.percentile(seconds, 95))


def test_streaming_resamples_whole_episodes(finished):
    suite, store, _, _ = finished
    found = Results(suite, store).summary(suite.sweep("streaming"), "base", "serial", "local-only")
    assert found.mean.low == found.mean.high  # one episode


def test_the_report_links_to_the_examples_timelines(finished):
    pytest.importorskip("plotly", reason="needs the extra `explore`")
    suite, _, out, page = finished
    example = find_example(suite)
    data = embedded((out / "timeline.html").read_text("utf-8"))
    choices = {tuple(view["choice"]): view["timeline"] for view in data["views"]}
    assert set(choices) == {(w, p) for w in ("parallel", "serial") for p in TINY["planners"]}
    drawn = [timeline.latency for timeline in example.shown]
    three = ("serial", "dads-serial"), ("parallel", "dads-serial"), ("parallel", "single-cut")
    assert [data["timelines"][choices[c]]["latency"] for c in three] == pytest.approx(drawn)
    assert page.count('href="timeline.html"') == 1


def test_headline_names_settings_and_tells_what_falls_short(finished):
    suite, store, _, _ = finished
    words = " ".join(headline(Results(suite, store)))
    assert "64.5 %" in words
    assert "MHz: " in words
    assert words.count("strongest earlier system") == 2
