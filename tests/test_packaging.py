"""What an editable install and a wheel hold."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_is_told_to_hold_mjoa_gym_only() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["mjoa_gym"]


def test_an_editable_install_finds_agents_from_anywhere(tmp_path: Path) -> None:
    probe = "import importlib.metadata as m; print(m.version('mjoa-gym'))"
    if subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("mjoa-gym is not installed here")
    command = [sys.executable, "-c", "import agents.planner_agent"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
