"""The page on own models does what it says: its Python runs as one script."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mjoa_gym import DNN
from tests.forked import run

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "own-models.md").read_text("utf-8")
TORCH_PART = PAGE.split("## From an ONNX file")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TORCH_PART, re.DOTALL)


def test_the_python_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    code = blocks("python")
    assert len(code) >= 4
    strict = "import warnings; warnings.simplefilter('error')"
    done = run("-c", "\n".join([strict, *code]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    times = re.findall(r"^([\d.]+) ms", done.stdout, re.MULTILINE)
    alone, cold, later = map(float, times)
    assert cold <= alone
    assert later <= alone
    assert DNN.load(tmp_path / "classifier.json").n_layers == 5


def test_the_json_is_a_profile() -> None:
    (example,) = blocks("json")
    assert DNN.from_dict(json.loads(example)).name == "toy"


def test_the_commands_exist() -> None:
    text = "\n".join(blocks("bash"))
    scripts = re.findall(r"python scripts/(\w+)\.py (.*)", text)
    commands = re.findall(r"^mjoa-gym (\w+) (.*)", text, re.MULTILINE)
    assert len(scripts) >= 2
    assert len(commands) >= 2
    for folder, found in (("scripts", scripts), ("mjoa_gym/cli", commands)):
        shared = (ROOT / "mjoa_gym" / "cli" / "model.py").read_text("utf-8")
        for name, options in found:
            source = (ROOT / folder / f"{name}.py").read_text("utf-8") + shared
            for option in re.findall(r"--[a-z-]+", options):
                assert f'"{option}"' in source, (name, option)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        if "://" not in target:
            assert (ROOT / "docs" / target).exists(), target
