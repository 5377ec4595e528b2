"""What a release has to change at several places agrees."""

import re
import tomllib
from pathlib import Path

import yaml

from mjoa_gym import __version__

ROOT = Path(__file__).resolve().parent.parent


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert project["version"] == __version__ == cited["version"]
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (\d+\.\d+\.\d+)", changes, re.MULTILINE)
    assert headings[0] == __version__


def test_the_workflow_does_what_contributors_are_told():
    """The public host runs this repository's own targets, on every Python that it names."""
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert flow["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    steps = [step.get("run", "") for job in flow["jobs"].values() for step in job["steps"]]
    targets = set(re.findall(r"^make (\S+)$", "\n".join(steps), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert {"lint", "docs", "test-oldest"} <= targets
    for target in targets - {".venv/bin/.installed"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert any("bench check results/bench/*.json.gz" in step for step in steps)
