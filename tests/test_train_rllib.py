"""RLlib trains on our environments with several processes; needs RLlib (`make test-rllib`)."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "train_rllib.py"
SMALL = ["--iterations", "2", "--batch", "200", "--envs", "2", "--ues", "2"]
HAS_RAY = importlib.util.find_spec("ray") is not None


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_needs_no_rllib():
    assert "--env-runners" in run("--help").stdout


@pytest.mark.skipif(HAS_RAY, reason="RLlib is installed")
def test_without_rllib_it_says_what_to_install():
    done = run(*SMALL)
    assert done.returncode == 1
    assert "mjoa-gym[rllib]" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="needs RLlib, in a virtual environment of its own")
@pytest.mark.parametrize(
    ("env_id", "action"),
    [("MJOA/ColdStart-v1", "multidiscrete"), ("MJOA/Streaming-v1", "box")],
)
def test_two_processes_collect_in_every_iteration(env_id, action, tmp_path):
    done = run(*SMALL, "--env", env_id, "--action", action, "--checkpoint", str(tmp_path / "ppo"))
    assert done.returncode == 0, done.stderr
    returns = re.findall(r"iteration \d: mean return (-?\d+\.\d+), 200 steps by 2", done.stdout)
    assert len(returns) == 2
    workers = re.findall(r"worker (\d) \(pid (\d+) on .*\): (\d+) steps", done.stdout)
    assert len({pid for _, pid, _ in workers}) == 2
    assert sum(int(steps) for _, _, steps in workers) == 400
    assert (tmp_path / "ppo" / "rllib_checkpoint.json").exists()
