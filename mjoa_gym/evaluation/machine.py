"""The machine that produced results: processor, system, versions."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mjoa-gym", "numpy", "scipy", "numba", "gymnasium", "matplotlib")


def machine(*more: str) -> dict[str, str]:
    """Return the machine, the versions of our dependencies and of `more` packages, and the date."""
    return {
        "Processor": processor(),
        "Cores": str(os.cpu_count()),
        "System": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{name: version_of(name) for name in PACKAGES},
        "Date": time.strftime("%Y-%m-%d"),
        **{name: version_of(name) for name in more},
    }


def version_of(package: str) -> str:
    """Return the installed version of a package, or "unknown"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def processor() -> str:
    """Return the processor's name, as far as the system provides it."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8", "replace") if info.exists() else ""
    found = re.search(r"^(?:model name|Model)\s*: (.+)", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown"
