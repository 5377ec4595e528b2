"""`import mjoa_gym` stays light, and so do its evaluation and its command."""

import subprocess
import sys

import pytest

HEAVY = [
    "torch", "matplotlib", "plotly", "stable_baselines3", "sb3_contrib", "pandas", "simpy", "tqdm",
    "agents", "onnx", "onnx_ir", "google.protobuf", "msgspec", "PIL",
]  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "import mjoa_gym",
        "import mjoa_gym.evaluation",
        "from mjoa_gym.cli.main import parser; parser()",
    ],
)
def test_import_loads_nothing_heavy(code) -> None:
    code = f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
