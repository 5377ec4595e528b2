"""Says which of the package's extras a script needs, where otherwise an import would fail."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports that the extra makes possible; without it the script ends, saying so."""
    try:
        yield
    except ModuleNotFoundError as error:
        script = Path(sys.argv[0]).stem
        sys.exit(f"{script}: {error}; pip install -e '.[{name}]'")
