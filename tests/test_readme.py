"""The pages' code runs as written, and their tables are those of the results that are kept."""

import csv
import html
import re
from pathlib import Path

import pytest

from agents.learned_suite import SUITES, summary
from mjoa_gym.evaluation.benchmark.report import samples
from mjoa_gym.evaluation.benchmark.results import OVERVIEW
from mjoa_gym.evaluation.benchmark.suite import load_suite
from mjoa_gym.evaluation.comparison import Comparison, learned_against_planners, table
from mjoa_gym.evaluation.page import items
from mjoa_gym.evaluation.table import Table
from tests.forked import run

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = {page.name: page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
PAGES = {"README.md": README} | {name: DOCS[name] for name in ("environments.md", "evaluating.md")}
LONGEST_README = 150
"""Lines."""
BLOCKS = {
    f"{name} {k}": block
    for name, page in PAGES.items()
    for k, block in enumerate(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
}
PARSED = re.compile(
    r"mjoa-gym (?:explore|evaluate|benchmark|export|profile|planners|trace)\b[^\n`#|]*"
)


def part(name):
    """What stands between the markers of a part, wherever it is."""
    (text,) = (page for page in (README, *DOCS.values()) if f"<!-- {name}:begin -->" in page)
    return text.split(f"<!-- {name}:begin -->\n")[1].split(f"\n<!-- {name}:end -->")[0]


def rows_of(file):
    with (ROOT / "results" / file).open(newline="", encoding="utf-8") as content:
        header, *rows = (tuple(row) for row in csv.reader(content))
    return header, rows


def test_there_is_code_to_run() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("name", BLOCKS)
def test_code_block_runs(name: str, tmp_path: Path) -> None:
    block = BLOCKS[name]
    where = ROOT if "results/" in block else tmp_path
    done = run("-c", block, cwd=where)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "print" not in block


def test_the_benchmarks_part_is_what_its_results_say() -> None:
    """The sentences are the report's, the table that of the CSV, the rest the suite's."""
    suite = load_suite("quick")
    report = (ROOT / "results" / "quick" / "report.html").read_text("utf-8")
    (headline,) = re.findall(r'<div class="headline">(.*?)</div>', report, re.DOTALL)
    sentences = [html.unescape(text) for text in re.findall(r"<p>(.*?)</p>", headline)]
    others = [html.unescape(text) for text in re.findall(r"<li>(.*?)</li>", report)]
    assert part("benchmark") == items(sentences)
    listed, table, caption = part("benchmark-results").split("\n\n")
    overview = Table(OVERVIEW.format(suite.ours), *rows_of("quick/tables/overview.csv"))
    assert table == overview.markdown()
    assert caption.startswith(f"{overview.caption}; {samples(suite)}.")
    shown = listed.removeprefix("* ").split("\n* ")
    assert shown[: len(sentences)] == sentences
    assert len(shown) > len(sentences)
    assert shown[len(sentences) :] == others[: len(shown) - len(sentences)]


def test_what_is_reached_from_scratch_is_what_its_results_say() -> None:
    table = (ROOT / "results" / "from_scratch" / "table.md").read_text("utf-8").strip()
    assert part("from-scratch") == table
    for row in table.splitlines()[2:]:
        assert "nan" not in row


def test_the_learned_agents_part_is_what_their_results_say() -> None:
    shown = part("learned-results")
    assert part("learned") == items(summary(SUITES / "full.yaml", ROOT / "results" / "learned"))
    for name in ("cold-start", "streaming"):
        _, rows = rows_of(f"learned/{name}/episodes.csv")
        labels = list(dict.fromkeys(row[0] for row in rows))
        seeds = [int(row[1]) for row in rows if row[0] == labels[0]]
        results = Comparison.kept(ROOT / "results" / "learned" / name, seeds, labels)
        for made in (table(results), learned_against_planners(results)):
            assert made.markdown() in shown
        assert table(results).caption in shown
        times = Table("", *rows_of(f"learned/decision_times-{name}.csv"))
        assert times.markdown() in shown


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def test_every_link_into_the_repository_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_commands_are_as_the_pages_write_them() -> None:
    """Every option that a page gives to `mjoa-gym` is one, and so is every argument needed."""
    from mjoa_gym.cli.main import parser

    found = 0
    for page in (README, *DOCS.values()):
        for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL):
            for command in PARSED.findall(block.replace("\\\n", " ")):
                parser().parse_args(command.split()[1:])  # exits if one is not
                found += 1
    assert found >= 5
