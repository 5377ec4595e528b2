"""Planners that users register, and those that installed packages offer."""

import subprocess
import sys
import warnings

import pytest

from mjoa_gym.cli.main import main
from mjoa_gym.evaluation import compare
from mjoa_gym.evaluation.exploration import one_ue_planners
from mjoa_gym.planners import plan_with, planner_names, register_planner, registry
from tests.random_instances import random_instance

PACKAGE = """
from mjoa_gym.planners import plan_with

def cautious(instance):
    '''Stays on the UE.

    Always.
    '''
    return plan_with("local-only", instance)

NOT_CALLABLE = 3
"""
ENTRY_POINTS = """
[mjoa_gym.planners]
cautious = some_planners:cautious
broken = some_planners:gone
absent = no_such_package:plan
three = some_planners:NOT_CALLABLE
mjoa-mu = some_planners:cautious
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package with planners, most of which are of no use."""
    (tmp_path / "some_planners.py").write_text(PACKAGE)
    info = tmp_path / "some_planners-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-planners\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    registry.installed_planners.cache_clear()
    yield tmp_path
    registry.installed_planners.cache_clear()


def test_installed_planners_have_names_and_broken_ones_are_told(installed):
    before = tuple(registry.PLANNERS)
    with pytest.warns(RuntimeWarning) as told:
        names = planner_names()
    assert names[: len(before)] == before
    assert names[len(before) :] == ("cautious",)
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 4
    for name in ("broken", "absent", "three", "mjoa-mu"):
        assert sum(repr(name) in text and "left out" in text for text in texts) == 1
    instance = random_instance(0)
    for planner in ("cautious", "local-only"):
        assert not any(placement.any() for placement in plan_with(planner, instance).placements)
    assert plan_with("mjoa-mu", instance) is not None
    assert "cautious" in one_ue_planners()


def test_our_planners_do_not_look_at_what_is_installed(installed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_with("local-only", random_instance(0))


def test_installed_planners_play(installed, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compare({"it": "cautious"}, episodes=1, n_ues=2, rounds=2, processes=1)
        assert [row["reward"] for row in found.rows] == [0.0]
        assert main(["planners"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("cautious")]
    assert line.split(maxsplit=1)[1] == "Stays on the UE."


def test_names_can_be_registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})

    def mine(instance):
        return plan_with("edge-only", instance)

    register_planner("mine", mine)
    assert planner_names()[-1] == "mine"
    assert plan_with("mine", random_instance(0)).placements[0].all()
    found = compare({"a": "mine", "b": "edge-only"}, episodes=1, n_ues=2, rounds=2, processes=1)
    assert len({row["reward"] for row in found.rows}) == 1
    for name in ("mine", "mjoa-mu"):
        with pytest.raises(ValueError, match="there is a planner of this name already"):
            register_planner(name, mine)
    register_planner("mine", lambda instance: plan_with("local-only", instance), replace=True)
    assert not plan_with("mine", random_instance(0)).placements[0].any()
    with pytest.raises(ValueError, match="did you mean 'mine'"):
        plan_with("minne", random_instance(0))
    with pytest.raises(TypeError, match="must be a function"):
        register_planner("three", 3)
    with pytest.raises(ValueError, match="name=''"):
        register_planner("", mine)


def test_importing_the_package_loads_no_entry_point(installed):
    code = "import sys, mjoa_gym.planners; print('some_planners' in sys.modules)"
    path = f"import sys; sys.path.insert(0, {str(installed)!r}); "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
