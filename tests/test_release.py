"""What a release has to change at several places agrees."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
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


def test_the_package_index_gets_whole_addresses():
    """The README's links and pictures, as the package's metadata have them."""
    pytest.importorskip("hatch_fancy_pypi_readme", reason="needs the extra `dev`")
    metadata = pytest.importorskip("hatchling.metadata.core", reason="needs the extra `dev`")
    plugins = importlib.import_module("hatchling.plugin.manager").PluginManager()
    text = metadata.ProjectMetadata(str(ROOT), plugins).core.readme
    assert text.startswith("# mjoa-gym")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) >= 5
    for target in targets:
        assert re.match(r"https?://|#", target), target
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)
    assert any("raw.githubusercontent.com" in picture for picture in pictures)
    for target in (*targets, *pictures):
        place = re.match(r"https://\S+?/mjoa-gym/mjoa-gym/(?:blob/)?main/([^#]+)", target)
        assert place is None or (ROOT / place[1]).exists(), target
