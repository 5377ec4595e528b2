"""The two sides as commands: `python -m mjoa_gym.testbed server` and `... ue`."""

from __future__ import annotations

import sys

from mjoa_gym.testbed.commands import main

if __name__ == "__main__":
    sys.exit(main())
