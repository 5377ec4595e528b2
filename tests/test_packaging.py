"""What a wheel and an editable install hold, and that the wheel works where there is no clone."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="needs the extra `dev`")

ROOT = Path(__file__).resolve().parent.parent
PLANNER = """
import numpy as np

from helper import half
from mjoa_gym import Plan

def plan(instance):
    n = instance.n_ues
    return Plan([np.ones(ue.dnn.n_layers) for ue in instance.ues], half(n), half(n))
"""
HELPER = "import numpy as np\n\ndef half(n):\n    return np.full(n, 1 / n)\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A virtual environment with the wheel, and with what this one has but for the package."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command += ["--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def ran(elsewhere, *command):
    """A command of the virtual environment, in a folder outside the repository."""
    interpreted = {"NUMBA_DISABLE_JIT": "1"}  # compiling takes longer than all that is played
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    program = elsewhere / "venv" / "bin" / command[0]
    return subprocess.run(
        [program, *command[1:]], cwd=elsewhere, capture_output=True, text=True,
        env=kept | interpreted,
    )  # fmt: skip


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "mjoa_gym"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not a clone")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"mjoa_gym/py.typed", "mjoa_gym/evaluation/suites/quick.yaml"} <= expected


def test_the_wheel_says_whose_it_is(wheel):
    content = zipfile.ZipFile(wheel)
    (name,) = (name for name in content.namelist() if name.endswith("/METADATA"))
    told = Parser().parsestr(content.read(name).decode())
    assert told["Author"] == "mjoa-gym contributors"
    assert told["License-Expression"] == "MIT"
    urls = dict(text.split(", ") for text in told.get_all("Project-URL"))
    assert {"Repository", "Documentation", "Changelog"} <= set(urls)
    assert "Typing :: Typed" in told.get_all("Classifier")
    assert told.get_payload().startswith("# mjoa-gym")
    extras = set(told.get_all("Provides-Extra"))
    assert "all" in extras
    for text in told.get_all("Requires-Dist"):  # an extra that names another one
        for part in text.split("mjoa-gym[")[1:]:
            assert set(part.partition("]")[0].split(",")) <= extras


def test_the_installed_wheel_evaluates_a_planner_from_a_file(elsewhere):
    where = ran(elsewhere, "python", "-c", "import mjoa_gym; print(mjoa_gym.__file__)")
    assert where.stdout.startswith(str(elsewhere / "venv")), where.stdout + where.stderr
    (elsewhere / "mine.py").write_text(PLANNER)
    (elsewhere / "helper.py").write_text(HELPER)
    (elsewhere / "small.yaml").write_text("{dnns: [nin], granularity: block, n_ues: 2, rounds: 2}")
    done = ran(
        elsewhere, "mjoa-gym", "evaluate", "mine.py:plan", "again=mine:plan", "edge-only",
        "--reference", "local-only", "--scenario", "small.yaml", "--episodes", "2", "--out", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert rows["mine.py:plan"][1:6] == rows["again"][1:6] == rows["edge-only"][1:6]
    assert float(rows["mine.py:plan"][1]) != float(rows["local-only"][1])
    assert len((elsewhere / "out" / "episodes.csv").read_text().splitlines()) == 1 + 4 * 2


def test_the_installed_wheel_has_what_its_commands_need(elsewhere):
    names = ran(elsewhere, "mjoa-gym", "planners")
    assert "mjoa-mu-prefetch" in names.stdout, names.stderr
    code = """
from mjoa_gym import DNN, Scenario
from mjoa_gym.evaluation.benchmark.suite import load_suite, suite_names
from mjoa_gym.rendering.interactive import asset
assert [load_suite(name).name for name in suite_names()] == ["full", "quick"]
assert [Scenario.load(name).name for name in Scenario.names()]
assert [DNN.load(name).name for name in DNN.names()]
for kind in ("css", "html", "js"):
    assert asset(f"page.{kind}")
    assert asset(f"watch.{kind}", "mjoa_gym.testbed")
"""
    done = ran(elsewhere, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    trained = str(ROOT / "results" / "agents" / "ppo-streaming-seed0")
    folder = ran(elsewhere, "mjoa-gym", "evaluate", trained)
    assert folder.returncode == 1
    assert "the package `agents` is needed" in folder.stderr
    assert "Traceback" not in folder.stderr


def test_an_editable_install_finds_agents_from_anywhere(tmp_path):
    probe = "import importlib.metadata as m; print(m.version('mjoa-gym'))"
    if subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("mjoa-gym is not installed here")
    command = [sys.executable, "-c", "import agents.learning_curves"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
