"""The frozen benchmark: its files, runs, checks of what others hand in, improvements, the table."""

import asyncio
import gzip
import json
import os
import time
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest

from mjoa_gym import Plan
from mjoa_gym.cli.main import main
from mjoa_gym.evaluation import processes
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.bench import frozen, reference
from mjoa_gym.evaluation.bench.checking import faults_of, static_fault
from mjoa_gym.evaluation.bench.improving import improve
from mjoa_gym.evaluation.bench.instances import (
    Case,
    Writer,
    factor_between,
    plain_plan,
    read_cases,
    read_plan,
)
from mjoa_gym.evaluation.bench.playing import Clocked, cost_of, counted, is_late, takes_budget
from mjoa_gym.evaluation.bench.ranking import (
    Standing,
    common_scenes,
    markdown,
    ranked,
    tables,
)
from mjoa_gym.evaluation.bench.reference import (
    NOMINAL_S,
    Stopwatch,
    normalised,
    reference_seconds,
)
from mjoa_gym.evaluation.bench.result import (
    BUDGETS,
    DYNAMIC,
    STATIC,
    checksum_of,
    keys_of,
    read_result,
    result_of,
)
from mjoa_gym.evaluation.bench.running import Asked, run
from mjoa_gym.evaluation.processes import Playing
from mjoa_gym.model.instance import SHARE_TOLERANCE
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.trivial import edge_only, local_only
from mjoa_gym.world.scenario import Scenario
from scripts.frozen.choose import FIRST_SEED, GROUPS, UES, drawn
from tests.random_instances import random_instance

ROOT = Path(__file__).resolve().parent.parent
SUBMISSIONS = sorted((ROOT / "results" / "bench").glob("*.json.gz"))
FROZEN = {
    "instances": "2fdceb0fd16edf2600bac606f142ef527d901a67ba89a8e332fabbaa2025bcf9",
    "scenarios": "01ad06974335b93d88806a57330c71f202c2d8325cdb58acbbc35a8049680bb3",
    "reference": "abec82e3348b972fe4dff7619c3eb008865454bebeb37cdc2bb12d9b2642945d",
}
"""What `mjoa-bench-v1` is. Another choice of instances or scenarios needs another name."""
HERE = Playing(0, 60.0, progress=False)
FEW = Asked(instances=40, seeds=1, scenarios=["default", "slow-uplink", "drift", "costs"])


def awkward(instance):
    """Plans well or badly, by the number of UEs."""
    n = instance.n_ues
    if n == 2:
        raise RuntimeError("two are too many")
    if n == 3:
        return "no plan"
    if n == 4:
        return Plan([np.ones(ue.dnn.n_layers) for ue in instance.ues], np.zeros(n), np.zeros(n))
    if n == 5:
        time.sleep(0.03)
    return plan_with("local-only" if n > 10 else "dads-serial", instance)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A small submission of both tracks, and its file."""
    folder = tmp_path_factory.mktemp("bench")
    result, remarks = run(source_of(awkward, "awkward"), "awkward", FEW, HERE, folder / "journal")
    assert not remarks
    result.write(folder / "awkward.json")
    return result, folder / "awkward.json"


def altered(path, change, honest=True):
    """The content of a file after a change, with a checksum that fits unless it is not honest."""
    content = json.loads(path.read_text())
    change(content)
    if honest:
        content["checksum"] = checksum_of(content)
    return content


def faults(content):
    """What a check says of a file's content first."""
    try:
        return list(islice(faults_of(result_of(content)), 1))
    except ValueError as error:
        return [str(error)]


# What is frozen


def test_nothing_that_is_frozen_has_moved():
    known = frozen.hashes()
    for name in (*frozen.FROZEN, frozen.BEST):
        assert frozen.hash_of(frozen.FOLDER / name) == known[name], name
    assert {name: known[f] for name, f in zip(FROZEN, frozen.FROZEN, strict=True)} == FROZEN


def test_a_byte_that_moves_is_noticed(tmp_path):
    content = frozen.content_of(frozen.FOLDER / frozen.INSTANCES)
    content["instances"][7]["ues"][0]["snr"][0] *= 1 + 1e-15
    path = tmp_path / frozen.INSTANCES
    path.write_bytes(frozen.pack(content))
    assert frozen.hash_of(path) != frozen.hashes()[frozen.INSTANCES]


def test_the_instances_are_what_the_page_says():
    cases = list(frozen.cases().values())
    assert len(cases) == 200
    assert {case.instance.n_ues for case in cases} == set(UES)
    counts = {group: sum(case.group == group for case in cases) for group in GROUPS}
    assert counts == GROUPS
    for case in cases:
        chains = [ue.dnn.is_chain for ue in case.instance.ues]
        assert all(chains) if case.group == "chain" else case.group != "dag" or not all(chains)
    assert any(case.instance.miss_price_s > 0 for case in cases)
    assert any(case.instance.energy_price_s_per_j > 0 for case in cases)
    assert any(case.instance.ues[0].snr_up is None for case in cases)
    size = sum(file.stat().st_size for file in frozen.FOLDER.iterdir())
    assert size < 1.5 * 2**20


def test_instances_are_written_and_read_to_the_last_bit():
    content = frozen.content_of(frozen.FOLDER / frozen.INSTANCES)
    writer = Writer(np.array(row) for row in content["seconds"])
    cases = frozen.cases()
    for case in frozen.evenly(list(cases.values()), 50):
        writer.add(case)
    again = json.loads(json.dumps(writer.content()))
    assert len(again["seconds"]) <= len(content["seconds"])
    for case in read_cases(again):
        one, other = cases[case.id].instance, case.instance
        for before, now in zip(one.packed, other.packed, strict=True):
            np.testing.assert_array_equal(before, now)
        assert [ue.power for ue in one.ues] == [ue.power for ue in other.ues]


@pytest.mark.parametrize("name", ["v1-01", "v1-03", "ideal-02", "chain-04", "dag-11", "costs-03"])
def test_the_instances_are_those_that_the_generator_draws(name):
    group, k = name.split("-")
    frozen_one, k = frozen.cases()[name].instance, int(k)
    first = FIRST_SEED + 100_000 * list(GROUPS).index(group) + 100 * k
    for seed in range(first, first + 3):  # those that nobody gains in are passed over
        instance, _ = drawn(group, k, UES[k % len(UES)], np.random.default_rng(seed))
        same = instance.packed.weight.shape == frozen_one.packed.weight.shape and all(
            np.array_equal(a, b) for a, b in zip(instance.packed, frozen_one.packed, strict=True)
        )
        if same:
            return
    pytest.fail("another instance")


def test_what_is_no_cold_start_cannot_be_written():
    with pytest.raises(ValueError, match="x: something is resident"):
        Writer().add(Case("x", "g", random_instance(0, n_ues=4)))


def test_factors_are_found_exactly():
    rng = np.random.default_rng(0)
    for _ in range(200):
        table = rng.uniform(1e-4, 1.0, size=rng.integers(1, 30)) * (rng.random() < 0.9)
        factor = float(rng.uniform(0.05, 2.0))
        found = factor_between(table, table / factor)
        if table.any():
            np.testing.assert_array_equal(table / found, table / factor)
    assert factor_between(np.array([1.0, 2.0]), np.array([0.5, 1.1])) is None


def test_a_network_that_has_changed_is_refused():
    content = frozen.content_of(frozen.FOLDER / frozen.INSTANCES)
    shipped = next(k for k, each in enumerate(content["networks"]) if "digest" in each)
    content["networks"][shipped]["digest"] = "0" * 16
    with pytest.raises(ValueError, match="of the catalogue has changed since"):
        read_cases(content)


def test_best_known_plans_cost_what_is_said_and_no_less_than_the_bound():
    best = frozen.best_known()
    assert set(best) == set(frozen.cases())
    for name, one in best.items():
        instance = frozen.cases()[name].instance
        assert cost_of(instance, one.plan) == pytest.approx(one.cost, rel=frozen.REPRODUCES)
        assert 0.0 < one.bound <= one.cost <= 0.98 * instance.local_cost.sum()
        assert one.found_by


def test_scenarios_draw_what_they_drew():
    content = frozen.content_of(frozen.FOLDER / frozen.SCENARIOS)["scenarios"]
    scenes = frozen.scenes()
    assert len(scenes) == 10
    assert len(keys_of(DYNAMIC)) == len(frozen.reference()) == 500
    for name in ("drift", "measured"):
        assert frozen.draws_of(scenes[name]) == content[name]["draws"]
    changed = scenes["drift"].scenario.with_changes(shadowing_db=6.001)
    assert (
        frozen.draws_of(frozen.Scene("drift", changed, scenes["drift"].seeds))
        != (content["drift"]["draws"])
    )


@pytest.mark.slow
def test_every_scenario_draws_what_it_drew():
    content = frozen.content_of(frozen.FOLDER / frozen.SCENARIOS)["scenarios"]
    for name, scene in frozen.scenes().items():
        assert frozen.draws_of(scene) == content[name]["draws"], name
        fields = scene.scenario.to_dict()
        assert Scenario.from_dict(fields) == scene.scenario


# Running


def test_answers_are_counted_as_the_protocol_says(played):
    result, _ = played
    assert not result.takes_budget
    rows = {key[0]: row for key, row in result.tracks[STATIC]["none"].items()}
    assert len(rows) == 40
    reasons = {}
    for name, row in rows.items():
        instance = frozen.cases()[name].instance
        local = instance.local_cost.sum()
        n = instance.n_ues
        if n in (2, 3, 4):
            reasons[n] = row["invalid"]
            assert counted(row, local, "1000") == 10 * local
        elif n == 5:
            assert is_late(row["seconds"], row["reference_s"], "1")
            assert counted(row, local, "1") == local
            assert counted(row, local, "none") == row["cost"]
        else:
            assert row["cost"] == pytest.approx(cost_of(instance, read_plan(row["plan"])))
    assert set(reasons) == {2, 3, 4}
    wanted = {2: "two are too many", 3: "gave str, not a Plan", 4: "never ends"}
    for n, reason in reasons.items():
        assert wanted[n] in reason
    assert counted({"cost": 99.0, "seconds": 1e-3, "reference_s": 1e-3}, 1.0, "10") == 10.0


def test_episodes_go_on_all_local_after_an_invalid_answer(played):
    result, _ = played
    for (scene, _), rows in result.tracks[DYNAMIC]["none"].items():
        n = frozen.scenes()[scene].scenario.n_ues
        assert len(rows) == 12
        assert all(("invalid" in row) == (n in (3, 4)) for row in rows)
        if n in (3, 4):
            assert all(row["cost"] == pytest.approx(row["local"]) for row in rows)
    # what takes 30 ms is late at 1 ms and at 10 ms, so these episodes are other ones
    (late,) = [key for key in result.tracks[DYNAMIC]["10"] if key[0] == "default"]
    assert result.tracks[DYNAMIC]["10"][late] != result.tracks[DYNAMIC]["none"][late]
    assert late not in result.tracks[DYNAMIC].get("1000", {})
    assert result.partial == "static: 40 of 200; dynamic: 4 of 50"


def test_planners_that_take_a_budget_are_told_it_in_seconds_of_this_machine():
    told = []

    def timely(instance, budget_s=None):
        told.append(budget_s)
        return local_only(instance)

    assert takes_budget(timely)
    assert not takes_budget(local_only)
    clocked = Clocked(timely, "100")
    clocked(frozen.cases()["v1-00"].instance)
    assert told == [pytest.approx(0.1 * clocked.reference_s / NOMINAL_S)]
    assert normalised(told[0], clocked.reference_s) == pytest.approx(0.1)
    Clocked(timely, "none")(frozen.cases()["v1-00"].instance)
    assert told[-1] is None
    assert 0 < reference_seconds() < 1


def test_the_clock_does_not_count_waiting_for_a_processor(monkeypatch, tmp_path):
    stopwatch = Stopwatch()
    time.sleep(0.02)
    assert 0.02 <= stopwatch.read() < 2.0  # sleeping counts
    told = tmp_path / "schedstat"
    told.write_text("0 1000000000 1")
    monkeypatch.setattr(reference, "SCHEDULER", told)
    stopwatch = Stopwatch()
    time.sleep(0.05)
    before = time.perf_counter() - stopwatch._start
    told.write_text("0 1030000000 1")
    assert stopwatch.read() == pytest.approx(before - 0.03, abs=0.02)
    monkeypatch.setattr(reference, "SCHEDULER", tmp_path / "nothing")
    assert 0.0 < Stopwatch().read() < 1.0


def test_a_second_run_goes_on_from_the_journal(tmp_path):
    asked, calls = Asked((STATIC,), instances=4), []

    def counting(instance):
        calls.append(instance.n_ues)
        return local_only(instance)

    go = partial(run, source_of(counting, "counting"), "counting", asked, HERE, tmp_path)
    first = go()[0].tracks
    before = len(calls)
    assert go()[0].tracks == first
    assert len(calls) == before > 4  # the warm-up was asked, too
    go(fresh=True)
    assert len(calls) > before


@pytest.mark.parametrize("change", ["planner", "timeout"])
def test_a_journal_does_not_answer_for_another_planner_or_timeout(tmp_path, change):
    asked, planners = Asked((STATIC,), instances=4), [local_only, edge_only]
    costs = []
    for k, timeout_s in enumerate((1.0, 2.0)):
        name = f"mine.py:{k}" if change == "planner" else "mine.py:plan"
        how = HERE if change == "planner" else HERE._replace(timeout_s=timeout_s)
        result, _ = run(source_of(planners[k], "x"), name, asked, how, tmp_path)
        costs.append([row["cost"] for row in result.tracks[STATIC]["none"].values()])
    assert costs[0] != costs[1]


def test_a_damaged_line_of_a_journal_is_named(tmp_path):
    asked = Asked((STATIC,), instances=2)
    go = partial(run, source_of(local_only), "x", asked, HERE, tmp_path)
    go()
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text().replace('{"key"', '{"key', 1))
    with pytest.raises(ValueError, match=r"journal.jsonl, line 2: is damaged .* --fresh"):
        go()
    path.write_text('{"setting": "another", "code": ""}\n{"key": [], "rows": []}\n')
    with pytest.raises(ValueError, match="write elsewhere with --journal"):
        go()


class Wordless(Exception):
    """An exception whose text raises another one."""

    def __str__(self):
        raise ValueError("no text")


def raising(error):
    """A planner that raises an exception."""

    def planner(instance):
        raise error

    return planner


def with_shares(shares):
    """A planner of a plan that `Plan` would refuse, or that takes far too long."""

    def planner(instance):
        plan = edge_only(instance)
        vars(plan).update(bandwidth_share=shares(instance.n_ues))
        return plan

    return planner


@pytest.mark.parametrize(
    ("planner", "said"),
    [
        (raising(asyncio.CancelledError("no\x1b[1m | time")), "CancelledError: no [1m | time"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising(Wordless()), "Wordless: (without a text)"),
        (with_shares(lambda n: (1.0 / n,) * n), "has no attribute"),
        (with_shares(lambda n: np.ones(n) + 1.0), "at most 1 is allowed"),
        (with_shares(lambda n: np.full(n, 1.7e-307)), "never ends"),
    ],
)
def test_whatever_goes_wrong_is_an_invalid_answer(tmp_path, planner, said):
    asked = Asked(budgets=("1000",), instances=3, seeds=1, scenarios=["default"])
    result, remarks = run(source_of(planner, "odd"), "odd", asked, HERE, tmp_path)
    assert not remarks
    result.write(tmp_path / "odd.json")
    assert not list(faults_of(read_result(tmp_path / "odd.json")))
    (rows,) = result.tracks[DYNAMIC]["none"].values()
    for row in (*result.tracks[STATIC]["none"].values(), *rows):
        assert said in row["invalid"]
    assert (len(result.tracks[STATIC]["none"]), len(rows)) == (3, 12)


def test_a_planner_that_changes_the_instance_does_not_change_its_cost(tmp_path):
    def greedy(instance):
        plan = local_only(instance)
        for ue in instance.ues:
            vars(ue)["weight"] = 0.1
            ue.ue_seconds.flags.writeable = True
            ue.ue_seconds[:] = 0.0
        return plan

    asked = Asked(budgets=("1000",), instances=3, seeds=1, scenarios=["default"])
    result, _ = run(source_of(greedy), "greedy", asked, HERE, tmp_path)
    assert not list(faults_of(result))


def ends(instance):
    """Ends its process at once."""
    os._exit(4)


def hangs(instance):
    """Never answers."""
    time.sleep(1e6)


@pytest.mark.parametrize(
    ("planner", "said"), [(ends, "with status 4"), (hangs, "no decision within 1 s")]
)
def test_a_process_that_is_lost_in_the_warm_up_costs_all_answers(
    tmp_path, monkeypatch, planner, said
):
    monkeypatch.setattr(processes, "WARM_UP_S", 1.0)
    how = processes.Playing(1, 0.5, progress=False)
    asked = Asked(budgets=("1000",), instances=3, seeds=1, scenarios=["default"])
    started = []
    make = processes.Worker.__init__
    monkeypatch.setattr(
        processes.Worker, "__init__", lambda *args: started.append(0) or make(*args)
    )
    result, (remark,) = run(source_of(planner), "x", asked, how, tmp_path)
    assert "in the warm-up before instance v1-00" in remark
    assert len(started) == 1  # it is not tried again
    assert len(result.tracks[STATIC]["none"]) == 3
    for answers in result.tracks[DYNAMIC].values():
        (rows,) = answers.values()
        assert len(rows) == 12
        assert all(said in row["invalid"] for row in rows)
    assert all(said in row["invalid"] for row in result.tracks[STATIC]["none"].values())
    assert not list(faults_of(result))


PLANNER = """
import os
from mjoa_gym.planners.trivial import local_only
def plan(instance):
    if instance.n_ues == 5:
        os._exit(3)
    return local_only(instance)
"""


def test_what_ends_its_process_is_an_invalid_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLANNER)
    command = ["bench", "run", "mine.py:plan", "-o", "out.json.gz", "--track", "static"]
    assert main([*command, "--instances", "6"]) == 0
    said = capsys.readouterr()
    assert "mine.py:plan, in instance " in said.err
    assert ": its process ended (with status 3)" in said.err
    assert "answers are invalid; the first one: " in said.err
    assert "static, 1 ms: 6 instances, " in said.out
    result = read_result(Path("out.json.gz"))
    for (name,), row in result.tracks[STATIC]["none"].items():
        assert ("invalid" in row) == (frozen.cases()[name].instance.n_ues == 5)
    assert any("invalid" in row for row in result.tracks[STATIC]["none"].values())
    assert main(["bench", "check", "out.json.gz"]) == 0
    assert "ok out.json.gz: static: 6 of 200" in capsys.readouterr().out
    assert main(["bench", "table", "out.json.gz", "--out", "here"]) == 0
    assert "mine.py:plan*" in Path("here/table.md").read_text()
    assert "mine.py:plan*" in Path("here/table.html").read_text()


class Random:
    """An agent that acts through a view with a menu."""

    action_view = "multidiscrete"

    def __init__(self, scenario):
        self.generator, self.n = np.random.default_rng(0), scenario.n_ues
        from mjoa_gym.envs.actions import action_view

        self.space = action_view("multidiscrete", scenario, True).space

    def predict(self, observation, deterministic=True):
        return self.generator.integers(self.space.nvec), None


def test_agents_with_other_views_take_part_and_can_be_replayed(tmp_path):
    asked = Asked((DYNAMIC,), ("1000",), seeds=2, scenarios=["default", "ideal"])
    result, _ = run(source_of(Random, "random agent"), "x", asked, HERE, tmp_path)
    assert len(result.tracks[DYNAMIC]["none"]) == 4
    assert not list(faults_of(result))
    with pytest.raises(ValueError, match="the static track is for planners"):
        run(source_of(Random, "random agent"), "x", Asked((STATIC,)), HERE, tmp_path / "other")


def only_streaming(scenario):
    """An agent that cannot be made for a cold start."""
    raise ValueError("was trained for streaming")


def test_what_cannot_be_submitted_is_refused_before_anything_runs(tmp_path):
    for given, text, asked, said in (
        (local_only, "x" * 201, Asked(), "planner='x+...: must be a text of 1 to 200"),
        ("lower-bound", "x", Asked((STATIC,)), "the lower bound has no plans"),
        (only_streaming, "x", Asked(), "was trained for streaming; .* use --track dynamic"),
    ):
        with pytest.raises(ValueError, match=said):
            run(source_of(given), text, asked, HERE, tmp_path)
    for label in ("a|b", "<b>", "`a`", "a*", " a", "..", "a\nb", "\x1b[31mred", ""):
        with pytest.raises(ValueError, match="label="):
            run(replace(source_of(local_only), label=label), "x", Asked(), HERE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_is_not_allowed(capsys, tmp_path):
    for option in ("instances", "seeds", "limit"):
        for number in ("0", "-1"):
            assert main(["bench", "run", "mjoa-mu", "-o", "x.json", f"--{option}", number]) == 1
            assert f"{option}={number}: must be a whole number >= 1" in capsys.readouterr().err
    (tmp_path / "a.json").mkdir()
    (tmp_path / "b").write_text("")
    for name, said in (
        ("a.json", "is a folder"),
        ("b/c.json", "exists"),
        (f"{'c' * 260}.json", ""),
    ):
        assert main(["bench", "run", "mjoa-mu", "-o", str(tmp_path / name)]) == 1
        assert said in capsys.readouterr().err
    assert main(["bench", "run", "mjoa-mu", "-o", "x.txt"]) == 1
    assert "must end in .json or .json.gz" in capsys.readouterr().err
    assert main(["bench", "run", "mjoa-mu", "-o", "x.json", "--budgets-ms", "1,7"]) == 1
    assert "budgets-ms='7': allowed are ['1', '10', '100', '1000', 'none']" in (
        capsys.readouterr().err
    )
    assert main(["bench", "run", "mjoa-nu", "-o", "x.json"]) == 1
    assert "did you mean 'mjoa-mu'" in capsys.readouterr().err


# Checking


def test_an_honest_result_reproduces(played, tmp_path):
    result, path = played
    assert not list(faults_of(result))
    packed = tmp_path / "again.json.gz"
    read_result(path).write(packed)
    again = read_result(packed)
    assert again.tracks == result.tracks
    assert not list(faults_of(again, sample=2))


def first_plan(content):
    """The first answer of the static track with a plan that offloads."""
    return next(a for a in content["static"]["none"].values() if "1" in "".join(
        a.get("plan", {"edge": []})["edge"]))  # fmt: skip


def an_episode(content):
    """The rounds of the first episode without a limit."""
    return next(iter(content["dynamic"]["none"]["default"].values()))


def flip(plan):
    """Move a layer to the other side."""
    row = plan["edge"][0]
    plan["edge"][0] = ("1" if row[0] == "0" else "0") + row[1:]


def grow(content):
    """Give out more than there is."""
    plan = first_plan(content)["plan"]
    plan["bandwidth"] = [share * 1.5 + 0.5 for share in plan["bandwidth"]]


def set_share(content, share):
    """Replace a share."""
    first_plan(content)["plan"]["bandwidth"][0] = share


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: first_plan(c).update(cost=first_plan(c)["cost"] * 0.99), "the plan costs"),
        (lambda c: flip(first_plan(c)["plan"]), "the plan costs"),
        (grow, "sums to"),
        (lambda c: first_plan(c)["plan"]["edge"].pop(), "is needed, one entry each"),
        (lambda c: first_plan(c).update(invalid="no"), "must have plan and cost, or else invalid"),
        (lambda c: first_plan(c).update(seconds=-1.0), "seconds=-1.0: must be above 0"),
        (lambda c: first_plan(c).update(bonus=1), "'bonus': allowed are"),
        (lambda c: flip(an_episode(c)[3]["plan"]), "round 3: the plan costs"),
        (lambda c: an_episode(c)[2].update(cost=1e-3), "round 2: the plan costs"),
        (lambda c: an_episode(c)[2].update(local=99.0), "round 2: all-local costs"),
        (lambda c: an_episode(c).pop(), "the episode has more"),
        (lambda c: an_episode(c).append(an_episode(c)[0]), "the episode has 12"),
        (lambda c: an_episode(c)[0].update(invalid="x"), "its plan is not all-local"),
        (lambda c: c["static"]["none"].popitem(), "covers: says"),
        (lambda c: c["dynamic"].pop("none"), "covers: says"),
        (lambda c: c["static"].update({"7": {}}), "budget='7': allowed are"),
        (lambda c: c["static"]["none"].update({"v1-99": first_plan(c)}), "no such instance"),
        (lambda c: c["benchmark"].update(instances="0" * 64), "the result is stale"),
        (lambda c: c["benchmark"].update(name="mjoa-bench-v2"), "this version has 'mjoa-bench-v1'"),
        (lambda c: c.update(schema="mjoa-gym/bench-result/0"), "this version reads"),
        (lambda c: c.pop("made"), "the result has no 'made'"),
        (lambda c: c.update(label=""), "label='': must be a text"),
        (lambda c: c.update(takes_budget="no"), "takes_budget='no': must be true or false"),
        (lambda c: c.update(label="a|b"), "label='a|b': must not have"),
        (lambda c: c.update(planner="\x1b[2J"), "planner='\\x1b[2J': must be a text"),
        (lambda c: c["made"].update(more=[1]), "made.more=list of 1: must be a text"),
        (lambda c: c["benchmark"].update(more=1), "a field of benchmark='more'"),
        (lambda c: c["covers"]["static"].update(none=40.0), "covers: says"),
        (lambda c: c.update(static={}, dynamic={}, covers={"static": {}, "dynamic": {}}),
         "the result has no answers"),
        (lambda c: first_plan(c).update(reference_s=1e300), "must be 5e-05 to 0.1 s"),
        (lambda c: set_share(c, 10**400), "plan.bandwidth[0]: is too large"),
        (lambda c: set_share(c, True), "plan.bandwidth[0]=True: must be a number"),
        (lambda c: set_share(c, "0.1"), "plan.bandwidth[0]='0.1': must be a number"),
    ],
)  # fmt: skip
def test_what_does_not_reproduce_is_rejected(played, change, said):
    found = faults(altered(played[1], change))
    assert found
    assert said in found[0]


def test_a_change_that_leaves_the_checksum_is_rejected(played):
    content = altered(played[1], lambda c: c.update(planner="somebody else"), honest=False)
    assert faults(content) == ["checksum: the content has changed since it was written"]


def test_answers_that_are_late_need_an_all_local_plan(played):
    def hurry(content):
        rows = next(iter(content["dynamic"]["10"]["default"].values()))
        rows[0]["plan"] = an_episode(content)[0]["plan"]

    assert "is late or invalid, but its plan is not all-local" in "".join(
        faults(altered(played[1], hurry))
    )


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_truncated_files_are_rejected(played, tmp_path, kept, suffix, capsys):
    path = tmp_path / f"cut{suffix}"
    played[0].write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert main(["bench", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"REJECTED {path}: ")
    assert "is not JSON" in said or "is cut off" in said


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"\x1f\x8bnothing", b"[" * 100_000, b'{"schema": NaN}']
)
def test_garbage_is_rejected_in_a_line(tmp_path, content, capsys):
    path = tmp_path / "garbage.json"
    path.write_bytes(content)
    assert main(["bench", "check", str(path)]) == 1
    assert capsys.readouterr().out.count("\n") == 1


def test_messages_about_a_hostile_file_are_one_short_line(played, tmp_path, capsys):
    path = tmp_path / "hostile.json"
    name = "a\nok hostile.json: complete\x1b[2J" + 3000 * "x"
    change = altered(played[1], lambda c: c["static"]["none"].update({name: first_plan(c)}))
    path.write_text(json.dumps(change))
    assert main(["bench", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"REJECTED {path}: static.none.a ok hostile.json")
    assert len(said) < 500
    assert said[:-1].isprintable()


def test_data_after_the_compressed_data_is_rejected(played, tmp_path):
    path = tmp_path / "more.json.gz"
    played[0].write(path)
    path.write_bytes(path.read_bytes() + gzip.compress(b"more"))
    with pytest.raises(ValueError, match="more data after the end of the compressed data"):
        read_result(path)


def test_a_file_that_could_not_be_read_is_not_written(played, tmp_path, monkeypatch):
    path = tmp_path / "new.json"
    for result in (replace(played[0], label="a|b"), replace(played[0], tracks=endless(played[0]))):
        with pytest.raises(ValueError, match=r"label=|Infinity"):
            result.write(path)
    monkeypatch.setattr(frozen, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="has more than 1,000 bytes"):
        played[0].write(path)
    assert not path.exists()


def endless(result):
    """The tracks of a result, with an infinite cost."""
    static = result.tracks[STATIC]["none"]
    name = next(name for name, row in static.items() if "cost" in row)
    return result.tracks | {STATIC: {"none": {name: static[name] | {"cost": np.inf}}}}


def test_a_check_goes_on_after_a_missing_file_and_says_what_is_a_sample(played, capsys):
    assert main(["bench", "check", "nothing.json", str(played[1]), "--sample", "2"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("REJECTED ")
    assert "nothing.json" in first
    assert second.startswith("ok ")
    assert second.endswith("(only 2 answers of each track and budget checked)")


def test_plans_whose_shares_exceed_1_as_little_as_allowed_are_accepted():
    """The bound holds for shares up to 1, so such plans may cost a little less."""
    below = 0
    for name, best in frozen.best_known().items():
        if best.cost > best.bound * (1.0 + SHARE_TOLERANCE):
            continue
        plan = best.plan
        band, server = (
            s * ((1.0 + 0.99 * SHARE_TOLERANCE) / s.sum()) if s.any() else s
            for s in (plan.bandwidth_share, plan.compute_share)
        )
        more = Plan(plan.placements, band, server)
        cost = cost_of(frozen.cases()[name].instance, more)
        below += cost < best.bound
        answer = {"plan": plain_plan(more), "cost": cost}
        assert not static_fault((name,), answer, best), name
        assert "less than the certified bound" in static_fault(
            (name,), answer, best._replace(bound=cost * (1.0 + 1.1 * SHARE_TOLERANCE))
        )
    assert below


# Improving


@pytest.fixture
def best_file(tmp_path):
    """The best-known plans, but for one instance of which only all-local is known."""
    best = frozen.best_known()
    instance = frozen.cases()["chain-07"].instance
    plan = local_only(instance)
    worse = best["chain-07"]._replace(plan=plan, cost=cost_of(instance, plan), found_by="nobody")
    path = tmp_path / "best.json.gz"
    frozen.write_best(best | {"chain-07": worse}, path)
    return path


def test_only_checked_better_plans_replace_best_known_ones(best_file, tmp_path, played):
    before = frozen.best_known(best_file)
    asked = Asked((STATIC,), instances=40)
    result, _ = run(source_of("dads-serial"), "x", asked, HERE, tmp_path / "journal")
    (better,) = improve(result, best_file)
    now = frozen.best_known(best_file)
    assert better.instance == "chain-07"
    assert better.now < better.before
    assert now["chain-07"].found_by == "dads-serial"
    instance = frozen.cases()["chain-07"].instance
    assert cost_of(instance, now["chain-07"].plan) == now["chain-07"].cost == better.now
    assert all(now[n].cost == before[n].cost for n in now if n != "chain-07")
    hashes = json.loads((best_file.parent / frozen.HASHES).read_text())
    assert hashes == {best_file.name: frozen.hash_of(best_file)}
    assert improve(result, best_file) == []  # equal plans change nothing
    row = result.tracks[STATIC]["none"]["chain-12",]
    row["cost"] = before["chain-12"].cost * 0.9  # a claim alone
    with pytest.raises(ValueError, match="dads-serial, chain-12: the plan costs"):
        improve(result, best_file)
    assert frozen.best_known(best_file)["chain-12"].cost == before["chain-12"].cost


def test_another_file_is_not_taken_for_that_of_the_best_known_plans(played):
    for path in (played[1], frozen.FOLDER / frozen.INSTANCES):
        with pytest.raises(ValueError, match="does not have the best-known plans of"):
            improve(played[0], path)


# The table


def test_the_ranking_puts_the_better_planner_first(tmp_path):
    results = []
    for planner in (local_only, edge_only):
        name = planner.__name__
        asked = Asked(instances=20, seeds=1, scenarios=["ideal", "chains"])
        results.append(run(source_of(planner, name), name, asked, HERE, tmp_path / name)[0])
    first, second = ranked(results)
    assert [first.label, second.label] == ["local_only*", "edge_only*"]
    assert 1.0 < first.score < second.score
    gaps = first.static["1000"]
    costs = [
        frozen.cases()[name].instance.local_cost.sum()
        for (name,) in results[0].tracks[STATIC]["none"]
    ]
    best = [frozen.best_known()[name].cost for (name,) in results[0].tracks[STATIC]["none"]]
    np.testing.assert_allclose(sorted(gaps.best), sorted(np.array(costs) / best - 1))
    assert gaps.misses == (0, 0)
    text = markdown(results)
    assert "|  | local_only* |" in text  # without a rank
    assert "local_only*: static: 20 of 200; dynamic: 2 of 50." in text
    answers = {track: list(own["none"].values()) for track, own in results[1].tracks.items()}
    # on time, however busy the machine was
    answers[DYNAMIC] = [[row | {"seconds": 0.0} for row in rows] for rows in answers[DYNAMIC]]
    tracks = {
        track: {"none": dict(zip(keys_of(track), cycle(own), strict=False))}
        for track, own in answers.items()
    }
    core = {key: tracks[DYNAMIC]["none"][key] for key in keys_of(DYNAMIC, frozen.CORE)}
    complete = replace(results[1], label="complete", tracks=tracks | {DYNAMIC: {"none": core}})
    more = replace(complete, label="more", tracks=tracks)
    assert (
        Standing(more, frozen.best_known()).score == Standing(complete, frozen.best_known()).score
    )
    assert not complete.partial
    known = frozen.best_known()
    scene, *_ = keys_of(DYNAMIC)[frozen.CORE]
    extra = {key: tracks[DYNAMIC]["none"][key] for key in keys_of(DYNAMIC) if key[0] == scene}
    picked = replace(complete, tracks=tracks | {DYNAMIC: {"none": core | extra}})
    for one, count in ((complete, 50), (picked, 50), (more, 500)):
        assert {len(own.ratio) for own in Standing(one, known).dynamic.values()} == {count}
    assert len(tables([complete])) == 3
    part = {key: rows for key, rows in core.items() if key[0] in ("ideal", "drift", "costs")}
    part.popitem()  # an episode of "costs"
    few = replace(complete, label="few", tracks=tracks | {STATIC: {}, DYNAMIC: {"none": part}})
    static = replace(complete, label="static", tracks=tracks | {DYNAMIC: {}})
    assert [scene.id for scene in common_scenes([complete, few, static])] == ["ideal", "drift"]
    (*_, shared) = tables([complete, few, static])
    assert [row[0] for row in shared.rows] == ["complete", "few*"]
    assert shared.rows[0][1:] == shared.rows[1][1:]  # the same answers, in the same scenarios
    assert "all of these submissions have: ideal, drift." in shared.caption
    first, *_ = ranked([*results, complete])
    assert first.label == "complete"  # though local_only is better on its part
    with pytest.raises(ValueError, match="several submissions are called edge_only"):
        ranked([results[1], results[1]])


def test_submissions_that_were_committed_reproduce():
    assert SUBMISSIONS
    for path in SUBMISSIONS:
        assert not list(faults_of(read_result(path), sample=1)), path


def test_the_yardstick_itself_has_a_score_of_one_where_it_takes_its_time():
    path = ROOT / "results" / "bench" / "mjoa-mu.json.gz"
    standing = Standing(read_result(path), frozen.best_known())
    assert set(standing.static) >= set(BUDGETS)
    assert standing.static["1000"].best.min() >= -frozen.EQUAL


@pytest.mark.slow
def test_all_submissions_reproduce_and_make_the_table(tmp_path):
    for path in SUBMISSIONS:
        assert not list(faults_of(read_result(path))), path
    main(["bench", "table", *map(str, SUBMISSIONS), "--out", str(tmp_path)])
    committed = ROOT / "results" / "bench" / "table.md"
    assert (tmp_path / "table.md").read_text() == committed.read_text()
