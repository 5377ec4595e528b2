"""Make torchvision importable in this virtual environment; the Makefile runs this script.

PyPI's torchvision for Linux is built for CUDA. With a CPU build of torch its import fails with
"operator torchvision::nms does not exist", and so do the imports of timm and much of transformers.
If the index of the CPU builds cannot be reached, this script adds the operators to torchvision's
own file.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mjoa_gym.cli.ending import run
from mjoa_gym.profiles.vision import define_operators

ADDITION = f"""

# Added by mjoa-gym: the compiled operators do not load beside this build of torch.
{inspect.getsource(define_operators)}

if not _has_ops():
    define_operators()
"""


def imports() -> bool:
    """Return whether torchvision can be imported, or its import fails for another reason."""
    command = [sys.executable, "-c", "import torchvision"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 or "does not exist" not in done.stderr


def main() -> int:
    """Mend torchvision if that is needed; return the exit status."""
    found = find_spec("torchvision")
    if found is None or found.origin is None or imports():
        return 0
    with Path(found.origin).with_name("extension.py").open("a", encoding="utf-8") as file:
        file.write(ADDITION)
    print("torchvision: built for CUDA; mended so that it can be imported, without its operators")
    return 0 if imports() else 1


if __name__ == "__main__":
    raise SystemExit(run(main))
