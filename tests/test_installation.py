"""What the Makefile installs goes together, and torchvision can be imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "mend_torchvision.py"
EXTENSION = "import torch\n\n\ndef _has_ops():\n    return {}\n"
BROKEN = (
    'import torch\nfrom . import extension\ntorch.library.register_fake("torchvision::nms")(id)\n'
)


def run(*command: str | Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True
    )


def put(path: Path, init: str, has_operators: bool) -> Path:
    package = path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(init)
    (package / "extension.py").write_text(EXTENSION.format(has_operators))
    return package / "extension.py"


def test_a_torchvision_without_its_operators_is_mended(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    extension = put(tmp_path, BROKEN, has_operators=False)
    done = run(SCRIPT, path=tmp_path)  # succeeds if torchvision can be imported
    assert (done.returncode, done.stdout[:12]) == (0, "torchvision:"), done.stderr
    assert extension.read_text().startswith(EXTENSION.format(False))
    assert extension.read_text().endswith("if not _has_ops():\n    define_operators()\n")


def test_another_torchvision_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    extension = put(tmp_path, "raise RuntimeError('of another kind')\n", has_operators=True)
    done = run(SCRIPT, path=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert extension.read_text() == EXTENSION.format(True)


def test_torch_and_torchvision_come_from_one_source() -> None:
    if not sys.platform.startswith("linux") or shutil.which("make") is None:
        pytest.skip("needs Linux and make")
    options = ["--dry-run", "--always-make", "TORCH_INDEX=https://index"]
    printed = subprocess.run(
        ["make", *options, ".venv/bin/.installed"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    both = f"torch=={pins['torch']}+cpu torchvision=={pins['torchvision']}+cpu"
    assert f"--extra-index-url https://index {both}" in printed
    assert not re.search(r"install [^|\n]*torch(vision)?(==[\d.]+)?( |$)", printed)  # CUDA's
