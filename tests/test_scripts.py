"""Scripts where an extra is missing, and other mistakes on the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
        ("benchmark.py", "matplotlib", [], "benchmark"),
        ("evaluate.py", "tqdm", ["mjoa-mu"], "benchmark"),
        ("train.py", "stable_baselines3", [], "train"),
        ("testbed.py", "msgspec", [], "testbed,benchmark"),
        ("measure_device.py", "tqdm", ["alexnet"], "measure"),
    ],
)
def test_scripts_say_which_extra_they_need(script, missing, arguments, extra):
    command = [sys.executable, "-c", WITHOUT, missing, str(SCRIPTS / script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"pip install -e '.[{extra}]'")
    assert "Traceback" not in done.stderr


def test_the_testbed_says_which_extra_it_needs():
    code = (
        "import runpy, sys; sys.modules['msgspec'] = None; "
        "runpy.run_module('mjoa_gym.testbed', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("pip install -e '.[testbed]'")


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
    command = [sys.executable, str(SCRIPTS / "train.py"), "--out", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
