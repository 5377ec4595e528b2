"""The benchmark end to end on a tiny suite, its statistics, and what survives a kill."""

import csv
import html
import signal
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from mjoa_gym.cli.main import main
from mjoa_gym.evaluation import journal
from mjoa_gym.evaluation.benchmark.budgets import NO_LIMIT, Budgeted, gaps_of
from mjoa_gym.evaluation.benchmark.example import find_example
from mjoa_gym.evaluation.benchmark.figures import one_line_each
from mjoa_gym.evaluation.benchmark.findings import changes, findings, summary
from mjoa_gym.evaluation.benchmark.report import publish
from mjoa_gym.evaluation.benchmark.results import SuiteResults, against
from mjoa_gym.evaluation.benchmark.suite import (
    Cell,
    keys_of,
    load_suite,
    played_cells,
    run_suite,
    suite_from,
    suite_names,
)
from mjoa_gym.evaluation.decision_time import first_instance
from mjoa_gym.evaluation.journal import FILE, EpisodeStore
from mjoa_gym.evaluation.page import Section, items, update_pages
from mjoa_gym.evaluation.processes import Playing
from mjoa_gym.evaluation.table import Table
from mjoa_gym.model.instance import evaluate
from mjoa_gym.planners.registry import PLANNERS, plan_with
from tests.forked import Running, run
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
            "effects": [{"what": "a wider band", "base": "20", "point": "80"}],
        },
        "precision": {
            "kind": "condition",
            "fields": ["parameter_bits"],
            "values": [8, 32],
            "effects": [{"what": "finer parameters", "base": "8", "point": "32"}],
        },
        "energy": {"kind": "energy", "fields": ["energy_price_s_per_j"], "values": [0, 0.3]},
        "deadlines": {
            "kind": "deadlines",
            "fields": ["deadline_factor_min", "deadline_factor_max"],
            "values": [0.5, 0.9],
        },
        "mix": {"points": {"nin": {"dnns": ["nin"]}}, "seeds": 1},
        "streaming": {"environment": "streaming", "points": {"base": {}}, "seeds": 1},
        "ablation": {
            "kind": "ablation",
            "points": {"base": {}},
            "worlds": ["parallel"],
            "planners": ["local-only", "single-cut", "single-cut+demand"],
        },
        "budgets": {
            "kind": "budgets",
            "points": {"two": {}, "three": {"n_ues": 3}},
            "rounds": 1,
            "worlds": ["parallel"],
            "planners": ["local-only", "single-cut", "mjoa-mu", "oracle"],
            "budgets_ms": [1, 5],
        },
    },
}
BUDGETS = TINY["sweeps"]["budgets"]

MORE = Section("Some more", [("a caption", b"a picture")], [Table("", ("agent",), [("ppo",)])])


def played(suite, folder=None):
    store = EpisodeStore(folder, suite.fingerprint)
    assert run_suite(suite, store, Playing(0, progress=False)) == []
    return played_cells(suite, store)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny")
    suite = suite_from(TINY)
    cells = played(suite, out)
    readme = out / "README.md"
    longer = "<!-- benchmark-results:begin -->\n<!-- benchmark-results:end -->\n"
    readme.write_text(f"# Title\n{BEGIN}\nold numbers\n{END}\nrest\n{longer}")
    report = publish(suite, cells, out, "mjoa-gym benchmark --suite tiny", [readme], [MORE])
    return suite, cells, out, report.read_text("utf-8")


def without_times(cells):
    return {
        cell: [{k: v for k, v in row.items() if k != "planning_s"} for row in rows]
        for cell, rows in cells.items()
    }


def test_every_cell_and_round_is_in_the_csv(finished):
    suite, _, out, _ = finished
    with (out / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(suite.sweep(cell.sweep).rounds for cell in suite.cells())
    for row in rows:
        assert 0 < float(row["weighted_mean_s"]) < np.inf
        ratio = float(row["weighted_mean_s"]) / float(row["local_weighted_mean_s"])
        if row["sweep"] != "energy":  # where joules count, too
            assert float(row["reward"]) == pytest.approx(1 - ratio, rel=1e-7, abs=1e-7)
    local = [r for r in rows if r["planner"] == "local-only"]
    assert all(float(r["reward"]) == 0 for r in local)
    assert all(r["placement_kinds"].startswith(f"all on the UE={r['n_ues']};") for r in local)


def test_seeds_are_paired(finished):
    suite, cells, _, _ = finished
    local = {}
    for cell, rows in cells.items():
        for row in rows if cell.sweep != "streaming" else ():
            local.setdefault((cell.sweep, cell.seed, row["round"]), set()).add(row["local_s"])
    bandwidth = [found for (sweep, *_), found in local.items() if sweep == "bandwidth"]
    assert all(len(found) == 1 for found in bandwidth)
    assert len(set.union(*bandwidth)) == len(bandwidth)
    assert against(SuiteResults(suite, cells), suite.sweeps[:1], "serial") is not None


def test_report_stands_alone(finished):
    suite, _, out, page = finished
    assert page.count("<table>") > 8
    assert page.count('src="data:image/png;base64,') >= 8
    for outside in ('src="http', 'href="', "<script", str(ROOT), str(out)):
        assert outside not in page.replace('<a href="timeline.html">', "")
    for text in (
        "64.5 %",
        "mjoa-gym benchmark --suite tiny",
        "numpy",
        "strongest earlier system",
        "single instance",
    ):
        assert text in page
    assert "<h2>Some more</h2>" in page
    assert "a caption" in page
    assert "<td>ppo</td>" in page
    names = {f.stem for f in (out / "figures").glob("*.svg")}
    assert names == {f.stem for f in (out / "figures").glob("*.png")}
    assert {s.name for s in suite.sweeps} <= names
    assert {"edge_share", "diversity", "serial_against_parallel", "streaming_rounds"} <= names


def test_readme_table_replaced_and_the_rest_kept(finished):
    text = (finished[2] / "README.md").read_text()
    before, after = text.split(f"\n{END}\nrest\n")
    suite, cells, *_ = finished
    results = SuiteResults(suite, cells)
    assert before == f"# Title\n{BEGIN}\n{items(summary(results))}"
    assert after.startswith("<!-- benchmark-results:begin -->\n* ")
    assert items(findings(results)) in after
    assert "| Bandwidth |" in after


@pytest.mark.parametrize("text", ["nothing", f"{END} {BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_readme_without_markers_is_refused(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"README.md needs one line"):
        update_pages([path], {"benchmark": "new"})
    assert path.read_text() == text


def test_a_readme_has_several_parts(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"{BEGIN}{END}<!-- learned:begin -->old<!-- learned:end -->")
    update_pages([path], {"learned": "new", "elsewhere": "not here"})
    assert path.read_text() == f"{BEGIN}{END}<!-- learned:begin -->\nnew\n<!-- learned:end -->"


def test_processes_give_the_same_results_and_continue(finished, tmp_path):
    suite, reference, _, _ = finished
    store = EpisodeStore(tmp_path, suite.fingerprint)
    for cell, key in list(keys_of(suite).items())[:-5]:
        store.add(key, reference[cell])
    assert run_suite(suite, store, Playing(2, progress=False)) == []
    assert without_times(played_cells(suite, store)) == without_times(reference)
    again = EpisodeStore(tmp_path, suite.fingerprint)
    assert without_times(played_cells(suite, again)) == without_times(reference)


def test_goes_on_after_kill_9(tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({**TINY, "seeds": 3}))
    out, suite = tmp_path / "out", load_suite(config)
    command = ["-m", "mjoa_gym", "benchmark", "--suite", config, "--out", out]
    process = Running(*command)
    file = out / FILE
    wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") > 12)
    workers = children(process.pid)
    assert workers
    process.send_signal(signal.SIGKILL)
    assert process.wait().returncode == -signal.SIGKILL
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    done = EpisodeStore(out, suite.fingerprint)
    assert 12 <= len(done.rows) < len(list(suite.cells()))
    before = file.read_bytes()
    with file.open("ab") as torn:
        torn.write(b'{"key": ["bandwidth", "20", "parallel", "loc')  # as if killed while writing
    run(*command, check=True)
    assert file.read_bytes().startswith(before)
    assert (out / "report.html").exists()
    found = played_cells(suite, EpisodeStore(out, suite.fingerprint))
    assert without_times(found) == without_times(played(suite))


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid):
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return listing.read_text().split() if listing.exists() else []


def test_another_configuration_or_code_is_refused(tmp_path, monkeypatch):
    tiny, other = (suite_from({**TINY, **more}).fingerprint for more in ({}, {"rounds": 3}))
    EpisodeStore(tmp_path, other)  # without a result, nothing can be mixed
    EpisodeStore(tmp_path, tiny).add(("a", 0), [])
    assert EpisodeStore(tmp_path, tiny).rows == {("a", 0): []}
    with pytest.raises(ValueError, match=r"another configuration.*--fresh.*--out"):
        EpisodeStore(tmp_path, other)
    EpisodeStore(tmp_path, other, fresh=True).add(("a", 0), [])
    monkeypatch.setattr(journal, "code_fingerprint", lambda: "newer")
    with pytest.raises(ValueError, match="another version of the code"):
        EpisodeStore(tmp_path, other)


def test_command_line(tmp_path, capsys):
    config = tmp_path / "broken.yaml"
    config.write_text(yaml.safe_dump({**TINY, "earlyer": []}))
    assert main(["benchmark", "--suite", str(config), "--out", str(tmp_path)]) == 1
    assert "did you mean 'earlier'?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "--help"])
    assert end.value.code == 0
    assert "--fresh" in capsys.readouterr().out


OWN = """
import mjoa_gym.planners

def same(instance):
    return mjoa_gym.planners.plan_with("single-cut", instance)

def never(instance):
    raise ArithmeticError("no way")
"""


def test_planners_that_users_bring_run_beside_ours(finished, tmp_path, capsys):
    """One that plans as ours does has the same numbers; one that fails spoils its own row only."""
    _, cells, _, _ = finished
    (tmp_path / "own.py").write_text(OWN)
    config, out = tmp_path / "tiny.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(TINY))
    suite = load_suite(config)
    brought = [f"same={tmp_path / 'own.py'}:same", f"never={tmp_path / 'own.py'}:never"]
    command = ["benchmark", "--suite", str(config), "--out", str(out), "--processes", "0"]
    store = EpisodeStore(out, suite.fingerprint)
    for cell, key in keys_of(suite).items():
        store.add(key, cells[cell])  # who plans is not what is played
    assert main([*command, "--planners", *brought]) == 1
    error = capsys.readouterr().err
    assert "never, episode with seed 7, round 0" in error
    assert "ArithmeticError: no way" in error
    with (out / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    seconds = {
        planner: [r["weighted_mean_s"] for r in rows if r["planner"] == planner]
        for planner in ("single-cut", "same", "never")
    }
    assert seconds["same"] == seconds["single-cut"]
    assert seconds["never"] == []
    page = (out / "report.html").read_text("utf-8")
    assert "<td>same</td>" in page
    assert "ArithmeticError: no way" in page
    table = (out / "tables" / "bandwidth_0.csv").read_text().splitlines()
    assert "never,-,-,-,-" in table


def test_a_planner_is_brought_once():
    with pytest.raises(ValueError, match="'ionn' is in bandwidth already"):
        suite_from(TINY).with_planners(["ionn", "ionn"])
    with pytest.raises(ValueError, match="'single-cut' is in bandwidth already"):
        suite_from(TINY).with_planners(["single-cut"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planners": ["local-only", "single-cuts"]}, "did you mean 'single-cut'?"),
        ({"seeds": 0}, "seeds=0"),
        ({"worlds": ["paralel"]}, "did you mean 'parallel'?"),
        ({"scenario": {"n_uess": 1}}, "did you mean 'n_ues'?"),
        ({"ours": "ionn"}, "planners lacks ['ionn']"),
        ({"sweeps": {}}, "sweeps is empty"),
        ({"sweeps": {"a": {"fields": ["n_ues"]}}}, "sweep a: needs either"),
        ({"sweeps": {"a": {"fields": ["n_ues"], "values": [1, 1]}}}, "same label"),
        ({"sweeps": {"a": {"points": {"x": {}}, "kind": "swep"}}}, "did you mean 'sweep'?"),
        ({"sweeps": {"a": {"points": {"x": {}}, "effects": [{"what": "y"}]}}}, "lacks"),
        (
            {
                "sweeps": {
                    "a": {
                        "points": {"x": {}},
                        "effects": [{"what": "y", "base": "x", "point": "z"}],
                    }
                }
            },
            "effects: point='z'",
        ),
        ({"sweeps": {"a": {**BUDGETS, "budgets_ms": []}}}, "a: budgets_ms is empty"),
        ({"sweeps": {"a": {**BUDGETS, "budgets_ms": [1, 0]}}}, "a: budgets_ms=0: must be above 0"),
        (
            {"sweeps": {"a": {**BUDGETS, "rounds": 2}}},
            "a: budgets are for cold starts of one round",
        ),
        (
            {"sweeps": {"a": {**BUDGETS, "planners": [*BUDGETS["planners"], "lower-bound"]}}},
            "a: the lower bound has no plan",
        ),
    ],
)
def test_wrong_suites_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        suite_from({**TINY, **changes})
    assert message in str(error.value)


def test_shipped_suites_are_valid_and_differ_only_in_size():
    quick, full = (load_suite(name) for name in ("quick", "full"))
    assert set(suite_names()) == {"quick", "full"}
    assert [s.name for s in quick.sweeps] == [s.name for s in full.sweeps]
    assert [s.planners for s in quick.sweeps] == [s.planners for s in full.sweeps]
    assert quick.earlier == full.earlier
    assert len(list(full.cells())) > 5 * len(list(quick.cells()))


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_planner_that_is_gone_is_noticed(name, monkeypatch):
    monkeypatch.delitem(PLANNERS, "efficiency")
    with pytest.raises(ValueError, match="agent='efficiency'"):
        load_suite(name)


def test_summary_against_numpy(finished):
    suite, cells, _, _ = finished
    sweep = suite.sweep("bandwidth")
    mean, median, p95, _ = SuiteResults(suite, cells).summary(sweep, "20", "parallel", "single-cut")
    seconds = [
        row["latency_s"]
        for cell, rows in cells.items()
        for row in rows
        if cell[:4] == ("bandwidth", "20", "parallel", "single-cut")
    ]
    assert mean.value == pytest.approx(np.mean(seconds))
    assert median == pytest.approx(np.median(seconds))
    assert p95 == pytest.approx(np.percentile(seconds, 95))


def test_plans_on_budgets(finished):
    """Every search is there, none is worse than doing nothing, and what is played is the same."""
    suite, cells, out, page = finished
    with (out / "budgets.csv").open() as file:
        rows = list(csv.DictReader(file))
    latency = {(r["planner"], r["point"], int(r["seed"]), float(r["budget_ms"])): r for r in rows}
    where = list(product(("two", "three"), (7, 8)))
    limited = product(("mjoa-mu", "oracle"), where, (1, 5))
    unlimited = product(BUDGETS["planners"], where, (np.inf,))
    assert set(latency) == {(who, *at, budget) for who, at, budget in [*limited, *unlimited]}
    assert len(rows) == len(latency)
    for (_, point, seed, _), row in latency.items():
        (local,) = cells[Cell("budgets", point, "parallel", "local-only", seed)]
        assert float(row["seconds"]) > 0
        assert 0 < float(row["latency_s"]) <= local["latency_s"] * (1 + 1e-8)
    sweep = suite.sweep("budgets")
    for point, seed in where:
        instance = first_instance(sweep.setting_at(point, "parallel").scenario, seed)
        seconds = np.average(
            evaluate(instance, plan_with("mjoa-mu", instance)),
            weights=[ue.weight for ue in instance.ues],
        )
        found = latency["mjoa-mu", point, seed, np.inf]["latency_s"]
        assert float(found) == pytest.approx(seconds, rel=1e-8)
    table = (out / "tables" / "budgets_0.csv").read_text().splitlines()
    assert table[0] == "Planner,budgets,1 ms,5 ms,no limit"
    assert len(table) == 1 + 4 * 2
    assert table[1].startswith("local-only,two,-,-,")
    assert "<h2>budgets</h2>" in page


def test_gaps_to_the_best_known_plan():
    """The best known is that of each instance, by whomever; means of gaps, medians of times."""
    plans = [
        Budgeted("a", "x", 1, 10.0, 0.010, 3.0),
        Budgeted("a", "x", 2, 10.0, 0.014, 1.0),
        Budgeted("a", "x", 3, 10.0, 0.011, 2.0),
        Budgeted("b", "x", 1, NO_LIMIT, 9.0, 2.0),
        Budgeted("b", "x", 2, NO_LIMIT, 8.0, 1.5),
        Budgeted("b", "x", 3, NO_LIMIT, 7.0, 2.0),
        Budgeted("a", "y", 1, 10.0, 0.010, 5.0),
    ]
    gaps = gaps_of(plans)
    assert gaps["a", "x", 10.0] == pytest.approx((0.5 / 3, 0.011))
    assert gaps["b", "x", NO_LIMIT] == pytest.approx((0.5 / 3, 8.0))
    assert gaps["a", "y", 10.0] == pytest.approx((0.0, 0.010))


def test_streaming_resamples_whole_episodes(finished):
    suite, cells, _, _ = finished
    results = SuiteResults(suite, cells)
    mean, *_ = results.summary(suite.sweep("streaming"), "base", "serial", "local-only")
    assert mean.low == mean.high  # one episode


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


def test_summary_and_findings_are_measured(finished):
    suite, cells, _, page = finished
    results = SuiteResults(suite, cells)
    waits, reductions, claim = summary(results)
    assert waits.startswith("A UE that has uploaded nothing waits ")
    assert "(MHz: " in waits
    assert reductions.startswith(f"Over the {sum(len(s.points) for s in suite.compared)} points ")
    assert "64.5 %" in claim
    other = findings(results)
    assert all(html.escape(sentence) in page for sentence in (waits, reductions, claim, *other))
    met = 100 - 100 * results.means(suite.sweep("deadlines"), "parallel", "single-cut", "missed")
    assert any(f"single-cut meets {met[1]:.0f} %" in sentence for sentence in other)
    missing = {c: rows for c, rows in cells.items() if c.planner != "single-cut"}
    assert findings(SuiteResults(suite, missing)) == []
    assert summary(SuiteResults(suite, missing)) == [
        "single-cut or the earlier systems did not run."
    ]


def test_changes_are_those_of_the_means_and_the_largest_comes_first(finished):
    suite, cells, *_ = finished
    results, found = SuiteResults(suite, cells), {}
    for sweep, effect, change in changes(results):
        base, other = (
            results.column(sweep, point, "parallel", "single-cut").mean()
            for point in (effect.base, effect.point)
        )
        found[effect.what] = other / base
        assert 1 - change.mean.value == pytest.approx(found[effect.what])
    assert {"a wider band", "finer parameters"} <= set(found)
    sizes = np.abs(np.log(list(found.values())))
    assert (np.diff(sizes) <= 0).all()


def test_lines_that_lie_on_each_other_are_one():
    lines = {name: np.array(values) for name, values in (
        ("ours", (1.0, 2.0)), ("a", (1.0, 2.0)), ("b", (1.02, 1.97)), ("c", (1.0, 2.2)),
        ("d", (1.0, 2.25)),
    )}  # fmt: skip
    shared = one_line_each(lines, ("ours",))
    assert shared == {"ours": ["ours"], "a": ["a", "b"], "c": ["c", "d"]}
