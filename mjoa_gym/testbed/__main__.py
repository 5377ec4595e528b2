"""The two sides as commands: `python -m mjoa_gym.testbed` is `mjoa-gym testbed`."""

import sys

from mjoa_gym.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["testbed", *sys.argv[1:]]))
