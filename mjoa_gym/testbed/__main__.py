"""The testbed's command line: `python -m mjoa_gym.testbed` does the same as `mjoa-gym testbed`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "testbed")
    runpy.run_module("mjoa_gym", run_name="__main__")
