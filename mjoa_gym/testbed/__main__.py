"""The two sides as commands: `python -m mjoa_gym.testbed server` and `... ue`."""

from __future__ import annotations

import sys

try:
    from mjoa_gym.testbed.commands import main
except ModuleNotFoundError as missing:
    sys.exit(f"testbed: {missing}; pip install -e '.[testbed]'")

if __name__ == "__main__":
    sys.exit(main())
