"""Planners and agents that users bring: how they are told apart, and what they may do wrong."""

import functools
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from mjoa_gym import Instance, Plan, Scenario
from mjoa_gym.cli.main import main
from mjoa_gym.evaluation import compare
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.agent_source import agent_from, source_of
from mjoa_gym.evaluation.episodes import Setting, play
from mjoa_gym.evaluation.processes import Failure, Job, Playing, play_all
from mjoa_gym.planners import plan_with

SCENARIO = Scenario(dnns=("alexnet", "nin"), granularity="block", n_ues=2, rounds=3)
SETTING = Setting("streaming", SCENARIO)


def planner(instance):
    return plan_with("edge-only", instance)


def tuned(instance, effort=3):
    return planner(instance)


def annotated(problem: Instance = None) -> Plan:
    return planner(problem)


def factory():
    return planner


def factory_of_agents(scenario=None):
    return Idle(scenario)


def needs_scenario(scenario):
    return Idle(scenario)


class Idle:
    """An agent that leaves all layers where they are."""

    action_view = "multidiscrete"

    def __init__(self, scenario=None):
        self.scenario = scenario

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros(5 * SCENARIO.n_ues, dtype=np.int64), state


class Callable:
    def __call__(self, instance):
        return planner(instance)


class OnItsOwn:
    def predict(self, observation):  # nothing of Stable-Baselines3
        view = PlannerAgent(planner, SCENARIO)
        return view.predict(observation)[0]


PLANNERS = {
    "function": planner,
    "with an option": tuned,
    "annotated": annotated,
    "partial": functools.partial(tuned, effort=2),
    "lambda": lambda instance: planner(instance),
    "factory": factory,
    "class": Callable,
    "object": Callable(),
    "predict only": OnItsOwn(),
    "class with predict only": OnItsOwn,
}
AGENTS = {
    "factory": factory_of_agents,
    "needs scenario": needs_scenario,
    "class": Idle,
    "object": Idle(SCENARIO),
}


@pytest.mark.parametrize("kind", PLANNERS)
def test_planners_of_every_kind_are_played(kind):
    expected = play(PlannerAgent("edge-only", SCENARIO), SETTING, [3])
    found = play(agent_from(PLANNERS[kind], SETTING), SETTING, [3])
    assert [row["reward"] for row in found[0]] == [row["reward"] for row in expected[0]]


@pytest.mark.parametrize("kind", AGENTS)
def test_agents_of_every_kind_are_played(kind):
    agent = agent_from(AGENTS[kind], SETTING)
    assert agent.scenario == (SCENARIO if kind != "class" else agent.scenario)
    assert [row["reward"] for row in play(agent, SETTING, [3])[0]] == [0.0] * 3


def test_what_needs_more_than_an_instance_is_refused():
    def plan(instance, budget):
        raise AssertionError("is not called")

    with pytest.raises(ValueError, match=r"plan\(instance, budget\): is called with an instance"):
        agent_from(plan, SETTING)


def test_what_plans_nothing_is_refused():
    with pytest.raises(ValueError, match="three=3: is not a planner"):
        compare({"three": 3})
    with pytest.raises(ValueError, match="int is not a planner, and has no `predict`"):
        agent_from(lambda: 3, SETTING)
    for agents in ({}, [planner]):
        with pytest.raises(ValueError, match="a dictionary of agents"):
            compare(agents)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "MJOA/Steaming-v1"}, "did you mean 'MJOA/Streaming-v1'"),
        ({"env": "streeming"}, "did you mean 'streaming'"),
        ({"episodes": 0}, "episodes=0"),
        ({"n_ues": 0}, "n_ues=0"),
        ({"reference": "iont"}, "did you mean 'ionn'"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"scenario": {"n_uess": 1}}, "did you mean 'n_ues'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare({"ionn": "ionn"}, **arguments)


@pytest.mark.parametrize("env", ["MJOA/ColdStart-v1", "mjoa_gym:MJOA/ColdStart-v1", "cold-start"])
def test_environments_have_ids_and_names(env):
    found = compare(
        {"mine": planner, "ours": "edge-only"}, env, episodes=2, seed=7, scenario=SCENARIO,
        rounds=1, n_ues=3, processes=0,
    )  # fmt: skip
    assert found.setting.environment == "cold-start"
    assert (found.setting.scenario.rounds, found.setting.scenario.n_ues) == (1, 3)
    mine, ours = ([r for r in found.rows if r["agent"] == name] for name in ("mine", "ours"))
    assert [row["seed"] for row in mine] == [7, 8]
    for one, other in zip(mine, ours, strict=True):
        assert {**one, "agent": 0, "planning_s": 0} == {**other, "agent": 0, "planning_s": 0}
    assert found.reference == "mine"


def test_what_is_told_of_predict():
    """Masks, states and starts for those who ask for them; one episode after the other."""

    class Asks:
        action_view = "discrete"

        def __init__(self):
            self.told = []

        def predict(self, observation, state, episode_start, action_masks, deterministic):
            assert observation.ndim == 1
            assert action_masks.dtype == np.bool_
            assert deterministic
            self.told.append((state, episode_start.tolist()))
            return np.int64(np.argmax(action_masks)), (state or 0) + 1

    agent = Asks()
    episodes = play(agent, SETTING, [1, 2])
    assert all(row["reward"] == 0 for rows in episodes for row in rows)
    turns = SCENARIO.n_ues * SCENARIO.rounds
    once = [(k or None, [k == 0]) for k in range(turns)]
    assert agent.told == 2 * once


class Bad:
    """What goes wrong at the third decision."""

    def __init__(self, wrong):
        self.wrong, self.asked = wrong, 0

    def __call__(self, instance):
        self.asked += 1
        return self.wrong(instance) if self.asked == 3 else planner(instance)


def fails(instance):
    return [][0]


def recurses(instance):
    return recurses(instance)


def leaves(instance):
    raise SystemExit(3)


def no_plan(instance):
    return planner(instance).placements


def for_another(instance):
    plan = planner(instance)
    return Plan(plan.placements[:1], [1.0], [1.0])


def not_a_number(instance):
    n = instance.n_ues
    return Plan([np.ones(ue.dnn.n_layers) for ue in instance.ues], [np.nan] * n, [1 / n] * n)


def never_ends(instance):
    n = instance.n_ues
    return Plan([np.ones(ue.dnn.n_layers) for ue in instance.ues], [0.0] * n, [1 / n] * n)


REASONS = {
    fails: "IndexError: list index out of range",
    recurses: "RecursionError",
    leaves: "SystemExit: 3",
    no_plan: "TypeError: the planner gave tuple, not a Plan",
    for_another: "ValueError: placements has 1 entries for 2 UEs",
    not_a_number: "ValueError: bandwidth_share[0]=nan",
    never_ends: "ValueError",
}


@pytest.mark.parametrize("wrong", REASONS, ids=lambda wrong: wrong.__name__)
def test_what_goes_wrong_spoils_its_own_row_only(wrong):
    found = compare(
        {"bad": Bad(wrong), "fine": planner}, episodes=2, seed=5, scenario=SCENARIO, processes=0,
        reference="fine",
    )  # fmt: skip
    (failure,) = found.failures
    assert failure[:3] == ("bad", (5,), 2)
    assert failure.reason.startswith(REASONS[wrong])
    assert str(failure).startswith("bad, episode with seed 5, round 2 (the first is 0): ")
    assert [row["agent"] for row in found.rows] == ["fine", "fine"]
    text = found.table()
    assert str(failure) in text
    rows = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.strip()}
    assert rows["bad"] == "failed"
    assert float(rows["fine"]) > 0


class Nonsense:
    """An agent whose action is no action."""

    def __init__(self, view, action):
        self.action_view, self.action = view, action

    def predict(self, observation):
        return self.action


@pytest.mark.parametrize(
    ("view", "action", "reason"),
    [
        ("box", np.full(10, np.nan), "must be a number"),
        ("box", np.zeros(7), r"has shape \(7,\); \(10,\) is needed"),
        ("multidiscrete", np.zeros(10), "whole numbers are needed"),
        ("multidiscrete", np.full(10, 99), "must be from 0 to"),
        ("discrete", None, "dtype object"),
        ("plan", {"placements": 1}, "must be a dict"),
        ("boxes", np.zeros(8), "did you mean 'box'"),
    ],
)
def test_nonsense_is_named(view, action, reason):
    agents = {"nonsense": Nonsense(view, action), "fine": planner}
    found = compare(agents, episodes=1, scenario=SCENARIO, processes=0)
    (failure,) = found.failures
    assert failure.agent == "nonsense"
    assert len(found.rows) == 1
    assert re.search(reason, failure.reason)


def test_episodes_that_were_decided_together_are_named_together():
    class Batch(Nonsense):
        batches = True

    agents = {"batch": Batch("box", np.zeros(3)), "fine": planner}
    found = compare(agents, episodes=3, scenario=SCENARIO, processes=0, seed=7)
    (failure,) = found.failures
    assert "batch, one of the episodes with seeds 7 to 9, round 0" in str(failure)
    assert len(found.rows) == 3


def test_an_agent_that_cannot_be_made_spoils_its_own_row_only():
    def made():
        raise RuntimeError("no weights")

    found = compare({"bad": made, "fine": planner}, episodes=1, scenario=SCENARIO, processes=0)
    assert [str(f) for f in found.failures] == ["bad: RuntimeError: no weights"]
    assert len(found.rows) == 1


STUBBORN = """
import os
import re
import sys

from mjoa_gym.planners import plan_with

print("this is not a message")

def fine(instance):
    print("nor is this")
    return plan_with("edge-only", instance)

def crashes(instance):
    os._exit(7)

def stuck(instance):
    re.match(r"(a+)+b", 40 * "a")  # holds the interpreter's lock for days

def asks(instance):
    sys.stdin.readline()
    return fine(instance)
"""


def test_processes_keep_the_others_going(tmp_path, monkeypatch, capfd):
    """What crashes, or is stuck in compiled code, ends with its process."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    (tmp_path / "small.yaml").write_text("{dnns: [nin], granularity: block, n_ues: 2, rounds: 2}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # which starts sooner
    texts = [f"{name}=stubborn:{name}" for name in ("crashes", "fine", "stuck", "asks")]
    options = ["--reference", "fine", "--episodes", "2", "--scenario", "small.yaml"]
    assert main(["evaluate", *texts, *options, "--timeout", "2", "--out", "out"]) == 1
    written = capfd.readouterr()
    lines = {line.partition(",")[0]: line for line in written.err.splitlines()}
    for name, reason in {
        "crashes": "its process ended (with status 7)",
        "stuck": "no decision within 2 s",
    }.items():
        line = lines[f"mjoa-gym evaluate: {name}"]
        assert "episode with seed 100000" in line
        assert "round 0" in line
        assert reason in line
    rows = [line.split(",")[:2] for line in Path("out/episodes.csv").read_text().splitlines()[1:]]
    assert sorted(rows) == [[n, str(1_000_000 + k)] for n in ("asks", "fine") for k in (0, 1)]
    assert "nor is this" in written.err
    before = Path("out/journal.jsonl").read_bytes()
    assert main(["evaluate", texts[1], texts[3], *options, "--out", "out"]) == 0
    assert Path("out/journal.jsonl").read_bytes() == before, "nothing was left to play"


def test_what_cannot_be_sent_is_refused():
    lock = threading.Lock()

    def locked(instance):
        with lock:
            return planner(instance)

    with pytest.raises(ValueError, match=r"cannot be sent to another process.*processes=0"):
        compare({"locked": locked}, episodes=1, scenario=SCENARIO)
    found = compare({"locked": locked}, episodes=1, scenario=SCENARIO, processes=0)
    assert len(found.rows) == 1


def test_what_failed_once_is_not_asked_again():
    asked = []

    def fails(instance):
        asked.append(instance)
        raise ValueError("no")

    source = source_of(fails, "bad")
    jobs = [Job(source, SETTING, {seed: (seed,)}) for seed in range(5)]
    ((_, played),) = play_all(jobs, Playing(0))
    assert isinstance(played, Failure)
    assert len(asked) == 1
