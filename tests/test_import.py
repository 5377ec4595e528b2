"""`import mjoa_gym` stays light."""

import subprocess
import sys


def test_import_loads_nothing_heavy() -> None:
    heavy = [
        "torch",
        "matplotlib",
        "plotly",
        "stable_baselines3",
        "pandas",
        "simpy",
        "tqdm",
        "agents",
    ]
    heavy += ["onnx", "google.protobuf"]
    code = f"import sys, mjoa_gym; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
