"""`python -m mjoa_gym` is the command `mjoa-gym`."""

import sys

from mjoa_gym.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
