"""The command's help, its endings, and what it says where something is missing."""

import errno
import os
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from mjoa_gym import __version__
from mjoa_gym.cli.ending import EXTRAS, run
from mjoa_gym.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
WITHOUT = """
import sys
missing, *sys.argv[1:] = sys.argv[1:]
sys.modules[missing] = None
from mjoa_gym.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "testbed"])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"    mjoa-gym {command}" in capsys.readouterr().out


def test_help_names_all_commands():
    done = subprocess.run(
        [sys.executable, "-m", "mjoa_gym", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(f"    {command}" in done.stdout for command in COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    "arguments", [[], ["explode"], ["evaluate"], ["evaluate", "ionn", "--timeout", "soon"]]
)
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: mjoa-gym" in capsys.readouterr().err


def ends(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("n=0:\n  must be more"), 1, "it: n=0: must be more\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "it: [Errno 2] No such file: 'x'\n"),
        (OSError(errno.ENOSPC, "No space", "x"), 1,
         f"it: [Errno {errno.ENOSPC}] No space: 'x'; make room, then run the same command again\n"),
        (KeyboardInterrupt(), 130, "\nStopped. Run the same command again to continue.\n"),
        (ModuleNotFoundError("No module named 'torch.x'", name="torch.x"), 1,
         "it: No module named 'torch.x'; without a GPU, first pip install torch torchvision "
         "--index-url https://download.pytorch.org/whl/cpu; then pip install 'mjoa-gym[torch]'\n"),
        (ImportError("PyQt is needed: pip install PyQt", name="torch"), 1,
         "it: PyQt is needed: pip install PyQt\n"),
        (ModuleNotFoundError("No module named 'mine'", name="mine"), 1,
         "it: No module named 'mine'\n"),
    ],
)  # fmt: skip
def test_endings(error, status, words, capsys):
    assert run(ends(error), "it", goes_on=True) == status
    assert capsys.readouterr().err.startswith(words)


def test_interrupted_it_says_how_to_go_on_and_leaves_nobody_behind(tmp_path):
    options = ["--episodes", "100000", "--n-ues", "2", "--rounds", "2", "--processes", "1"]
    running = subprocess.Popen(
        [sys.executable, "-m", "mjoa_gym", "evaluate", "local-only", "--reference", "local-only",
         *options, "--out", "out"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored behind an "&"
    )  # fmt: skip
    journal = tmp_path / "out" / "journal.jsonl"
    deadline = time.monotonic() + 200
    try:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does, to all of them
        _, told = running.communicate(timeout=60)
        assert running.returncode == 130
        assert told.strip().endswith("Stopped. Run the same command again to continue.")
        assert "Traceback" not in told
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


def test_what_is_no_mistake_of_the_users_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run(ends(ZeroDivisionError()), "it")


def test_extras_are_those_of_the_package():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = content["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        named = " ".join(extras[extra])
        for other in extras:
            named += " ".join(extras[other]) * (f"mjoa-gym[{other}]" in named)
        named = named.replace("-", "_")
        assert {"PIL": "pillow"}.get(package, package) in named, (package, extra)


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["benchmark"], "matplotlib", "evaluation"),
        (["explore", "--model", "alexnet", "--ue", "odroid-xu4", "--edge", "server-gpu",
          "--uplink-mbps", "50", "--points", "2", "--planners", "local-only"],
         "plotly", "evaluation"),
        (["profile", "torch.nn:Identity", "--no-files"], "torch", "torch"),
        (["evaluate", "ppo:m.zip"], "stable_baselines3", "sb3"),
        (["testbed", "server"], "msgspec", "testbed"),
    ],
)  # fmt: skip
def test_a_missing_extra_is_named(arguments, missing, extra, tmp_path):
    (tmp_path / "m.zip").touch()
    command = [sys.executable, "-c", WITHOUT, missing, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().endswith(f"pip install 'mjoa-gym[{extra}]'")
    assert done.stderr.count("\n") == 1, done.stderr
