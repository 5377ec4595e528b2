"""Scripts where an extra is missing, and other mistakes on the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import run

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
WITHOUT = """
import runpy, sys
missing, script, *rest = sys.argv[1:]
sys.modules[missing] = None
sys.argv = [script, *rest]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "missing", "arguments", "extra"),
    [
        ("train.py", "stable_baselines3", [], "sb3"),
        ("testbed.py", "msgspec", [], "testbed"),
        ("measure_device.py", "torch", ["alexnet"], "torch"),
        ("evaluate_learned.py", "matplotlib", [], "evaluation"),
    ],
)
def test_scripts_say_which_extra_they_need(script, missing, arguments, extra):
    command = [sys.executable, "-c", WITHOUT, missing, str(SCRIPTS / script), *arguments]
    environment = os.environ | {"PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"pip install 'mjoa-gym[{extra}]'")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "jobs=0"),
        (["--every", "0"], "every=0"),
        (["--timesteps", "0"], "n_timesteps=0"),
        (["--n-ues", "0"], "n_ues=0"),
    ],
)
def test_training_takes_nothing_for_not_given(arguments, message, tmp_path):
    pytest.importorskip("stable_baselines3")
    done = run(SCRIPTS / "train.py", "--out", tmp_path, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
