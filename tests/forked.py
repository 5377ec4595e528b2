"""Programs in processes of their own that start at once.

A fresh interpreter takes seconds until torch, Stable-Baselines3, SciPy and Numba are imported.
These processes are forks of one that has done so once. Use a real subprocess only where starting,
or what is imported, is what a test is about.
"""

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["mjoa_gym.cli.evaluate", "mjoa_gym.cli.benchmark", "mjoa_gym.envs", "scipy.stats",
     "matplotlib.pyplot", "torch.utils.tensorboard", "sb3_contrib", "agents.training.run",
     "tests.warm"]
)  # fmt: skip


class Running:
    """A program in a fork, with what `subprocess.Popen` has; its output is in files.

    Args:
        arguments: As a Python interpreter takes them: a script, "-c" and code or "-m" and a module,
            and what they are given.
        cwd: Where it runs.
        before: Called first, in the new process; of a module, so that it can be sent there.
    """

    def __init__(self, *arguments, cwd=ROOT, before=None):
        self._folder = Path(tempfile.mkdtemp())
        self._outputs = [self._folder / name for name in ("stdout", "stderr")]
        program = [str(argument) for argument in arguments]
        settings = program, str(cwd), self._outputs, before
        self._process = FORKS.Process(target=_execute, args=settings)
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        """The exit status, None while it runs."""
        return self._process.exitcode

    def send_signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout=600):
        """Its exit status and what it wrote, when it has ended; else it is killed."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        said = [path.read_text() if path.exists() else "" for path in self._outputs]
        shutil.rmtree(self._folder)
        return subprocess.CompletedProcess([], self._process.exitcode, *said)


def run(*arguments, check=False, **settings):
    """Run a program to its end; see `Running`."""
    done = Running(*arguments, **settings).wait()
    assert not check or done.returncode == 0, done.stderr
    return done


def _execute(program, cwd, outputs, before):
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    if before is not None:
        before()
    what = program[0]
    sys.path[0] = str(Path(what).resolve().parent) if what.endswith(".py") else ""
    if what == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv = ["-c", *program[2:]]
        exec(compile(program[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = program
        runpy.run_path(what, run_name="__main__")
