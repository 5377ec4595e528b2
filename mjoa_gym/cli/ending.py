"""Command lines of scripts, and one-line errors and exit statuses of scripts and commands."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

EXTRAS = {
    package: extra
    for extra, packages in {
        "evaluation": ("matplotlib", "plotly", "tqdm"), "sb3": ("stable_baselines3", "sb3_contrib"),
        "torch": ("torch",), "testbed": ("torchvision", "msgspec", "cryptography"),
        "render": ("PIL",), "onnx": ("onnx",), "measure": ("onnxruntime", "onnxscript"),
        "multiagent": ("pettingzoo",), "minari": ("minari",),
        "rllib": ("ray",), "train": ("tensorboard",),
    }.items()
    for package in packages
}  # fmt: skip
"""The extra that installs each package."""
CPU_BUILD = (
    "without a GPU, first pip install torch torchvision --index-url "
    "https://download.pytorch.org/whl/cpu; then "
)
"""Advice for extras that need PyTorch, whose default build downloads gigabytes of CUDA."""
STOPPED = 130


def command_line(about: str | None) -> argparse.ArgumentParser:
    """Make a script's command line without options; its help shows a docstring unchanged."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(main: Callable[[], int], name: str = "", goes_on: bool = False) -> int:
    """Run a command or a script; return its exit status.

    If a value is not allowed, a file cannot be read or written, or a package is missing, the status
    is 1, and one line on standard error begins with the command's or script's name. If the user
    interrupts it, the status is 130, with a remark if running the same command again `goes_on`.
    """
    name = name or Path(sys.argv[0]).stem
    try:
        return main()
    except KeyboardInterrupt:
        again = " Run the same command again to continue." if goes_on else ""
        print(f"\nStopped.{again}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, ValueError) as error:
        text = f"{error}{_remedy(error, goes_on)}"
        print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
        return 1


def _remedy(error: Exception, goes_on: bool) -> str:
    """Return how to fix an error, if that is known; else ""."""
    if isinstance(error, OSError):
        full = goes_on and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "; make room, then run the same command again" if full else ""
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if "pip install" in str(error) or package not in EXTRAS:
        return ""
    return f"; {CPU_BUILD if 'torch' in package else ''}pip install 'mjoa-gym[{EXTRAS[package]}]'"
