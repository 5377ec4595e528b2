"""What the site's tutorials tell their readers to do works as written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mjoa_gym.cli.main import parser
from tests.forked import run
from tests.site_pages import DOCS, ROOT, code_of

RUN = [
    "index.md",
    "quickstart.md",
    *(f"tutorials/{page.name}" for page in DOCS.glob("tutorials/*")),
]
NEEDS = {"tutorials/train.md": "stable_baselines3", "tutorials/two-machines.md": "torch"}
LONG = {*NEEDS, "tutorials/paper.md", "tutorials/network-and-device.md"}
STRICT = "import sys, warnings; sys.path.insert(0, '.'); warnings.simplefilter('error')\n"


def saved(page, folder):
    """The page's code, with what its reader saves in the folder."""
    code = code_of(DOCS / page)
    for name, text in code.files.items():
        (folder / name).write_text(text, "utf-8")
    return code


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in RUN]
)
def test_the_python_runs(page, tmp_path):
    if page in NEEDS:
        pytest.importorskip(NEEDS[page])
    code = saved(page, tmp_path)
    done = run("-c", STRICT + code.python, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "print" not in code.python


@pytest.mark.slow
def test_the_stranger_gets_into_the_table(tmp_path):
    """The commands of the first tutorial, in order, with the files that it links to."""
    code = saved("tutorials/compare.md", tmp_path)
    for name in re.findall(
        r"\(\.\./\.\./(results/bench/\S+\.json\.gz)\)", text("tutorials/compare.md")
    ):
        shutil.copy(ROOT / name, tmp_path)
    steps = [command[:2] for command in code.commands]
    assert steps[1:] == [["bench", "run"], ["bench", "check"], ["bench", "table"]]
    for command in code.commands:
        done = run("-m", "mjoa_gym", *command, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
        if command[0] == "evaluate":
            assert re.search(r"^mine +[\d.]+ ", done.stdout, re.MULTILINE)
        elif command[1] == "check":
            assert done.stdout.startswith("ok mine.json.gz")
    ranked = done.stdout.partition("\n\n")[0] + done.stdout
    assert re.search(r"^\|.*\bmine\b", ranked, re.MULTILINE), done.stdout


@pytest.mark.slow
def test_the_network_and_device_are_explored(tmp_path):
    code = saved("tutorials/network-and-device.md", tmp_path)
    assert run("-c", STRICT + code.python, cwd=tmp_path).returncode == 0
    (command,) = code.commands
    done = run("-m", "mjoa_gym", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "explored" / "explore.html").exists()


def test_every_command_is_one():
    """Every option that a page gives to `mjoa-gym` is one, and so is every argument needed."""
    commands = [one for page in DOCS.rglob("*.md") for one in code_of(page).commands]
    assert len(commands) >= 30
    for command in commands:
        if command[0] != "testbed":
            parser().parse_args(command)  # exits if it is none


def test_every_command_of_the_testbed_is_one():
    pytest.importorskip("msgspec")
    pytest.importorskip("torch")
    from mjoa_gym.testbed.commands import parser as testbed

    commands = [one for page in DOCS.rglob("*.md") for one in code_of(page).commands]
    found = [command[1:] for command in commands if command[0] == "testbed"]
    assert len(found) >= 8
    for command in found:
        testbed().parse_args(command)


def text(page):
    return (DOCS / page).read_text("utf-8")


def test_the_glossary_defines_each_word_once_in_order():
    words = re.findall(r"^\*\*(.+)\*\*$", text("glossary.md"), re.MULTILINE)
    assert [word.lower() for word in words] == sorted({word.lower() for word in words})
    defined = {part for word in words for part in word.lower().split(", ")}
    needed = "ue cell round menu bid placement resident prefetch retain band slowdown message"
    assert {*needed.split(), "cold start", "streaming", "target", "far-sighted"} <= defined
    entries = re.findall(r"^:   ((?:.+\n?)+)", text("glossary.md"), re.MULTILINE)
    assert len(entries) == len(words)
    for entry in entries:
        assert len(re.findall(r"\.(?:\s|$)", entry)) <= 3, entry


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path):
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!\w+:|#)([^)\s#]+)", prose):
        made = re.match(r"(?:\.\./)*(?:reference|api)/", target)  # when the site is built
        assert made or (page.parent / target).exists(), target
