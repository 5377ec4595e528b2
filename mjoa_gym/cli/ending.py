"""How scripts begin, and how they and commands end: what went wrong in a line, an exit status."""

from __future__ import annotations

import argparse
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
        "multiagent": ("pettingzoo",), "minari": ("minari", "h5py"),
        "rllib": ("ray",), "train": ("tensorboard",),
    }.items()
    for package in packages
}  # fmt: skip
"""Which extra brings a package."""
STOPPED = 130


def command_line(about: str | None) -> argparse.ArgumentParser:
    """A script's command line, without options yet; its help shows a docstring as it is."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(main: Callable[[], int], name: str = "", goes_on: bool = False) -> int:
    """Run a command or a script; returns its exit status.

    That is 1, and one line on standard error that begins with the name, or the script's, where
    something is not allowed, cannot be read or written, or is not installed; 130 when it was
    interrupted, with a remark if the same command `goes_on` where it stopped.
    """
    name = name or Path(sys.argv[0]).stem
    try:
        return main()
    except KeyboardInterrupt:
        again = " The same command goes on from here." if goes_on else ""
        print(f"\nStopped.{again}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, ValueError) as error:
        text = f"{error}{_remedy(error, goes_on)}"
        print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
        return 1


def _remedy(error: Exception, goes_on: bool) -> str:
    """How to mend an error, where that is known; else nothing."""
    if isinstance(error, OSError):
        return "; then run the same command again" if goes_on else ""
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if "pip install" in str(error) or package not in EXTRAS:
        return ""
    return f"; pip install 'mjoa-gym[{EXTRAS[package]}]'"
