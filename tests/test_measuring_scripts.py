"""The scripts behind numbers in the docs measure what they say."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mjoa_gym import Scenario
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.episodes import Setting, play

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import bench_startup
import streaming_bound
from throughput.contenders import IDS
from throughput.parts import seconds_of_parts
from view_loss import VIEWS, Through

SMALL = Scenario(
    dnns=("alexnet", "squeezenet1_1"), granularity="block", n_ues=3, server_memory_bytes=5e6
)


@pytest.mark.slow
def test_distances_to_the_streaming_bound(tmp_path, capsys):
    """Nobody is below it, and the certified bound is not above what it aims at."""
    file, page = tmp_path / "small.yaml", tmp_path / "page.md"
    file.write_text(yaml.safe_dump(SMALL.with_changes(name="small", rounds=4).to_dict()))
    page.write_text("".join(f"<!-- streaming-bound:{end} -->\n" for end in ("begin", "end")))
    arguments = ["--episodes", "2", "--scenario", str(file), "--pages", str(page)]
    assert streaming_bound.main(arguments) == 0
    text = capsys.readouterr().out
    assert text in page.read_text()
    lines = [line.split(" | ") for line in text.splitlines()[2:]]
    means = {cells[0].strip("| "): float(cells[1].split(" ")[0]) for cells in lines}
    bound, aim = means[streaming_bound.BOUND], means[streaming_bound.AIM]
    assert bound <= aim
    assert max(bound, aim) <= min(means[name] for name in streaming_bound.PLANNERS)
    assert len(means) == len(streaming_bound.PLANNERS) + 2 + len(streaming_bound.WITHOUT)


@pytest.mark.parametrize("env_id", IDS)
def test_the_parts_of_a_step_add_up(env_id):
    *parts, whole = seconds_of_parts(env_id, n_envs=32, steps=3)
    assert sum(parts) == pytest.approx(whole)
    assert min(parts[0], *parts[2:4]) > 0


def test_a_planner_plays_through_every_view():
    """What a view can say exactly is played exactly, and nothing is said by default."""
    setting = Setting("streaming", SMALL.with_changes(rounds=3))
    local, edge = (
        {
            name: play(
                planner if name == "plan" else Through(planner, name, setting), setting, [1, 2]
            )
            for name in ("plan", *VIEWS)
        }
        for planner in (PlannerAgent(which, SMALL) for which in ("local-only", "edge-only"))
    )
    for name in ("plan", *VIEWS):
        assert all(row["latency_s"] == row["local_s"] for rows in local[name] for row in rows)
        if name.startswith("shares"):  # there placements are what is best
            continue
        for one, other in zip(edge["plan"], edge[name], strict=True):
            seconds = [[row["latency_s"] for row in rows] for rows in (one, other)]
            np.testing.assert_allclose(*seconds, rtol=1e-9)  # all at the edge, equal shares


def test_starting_is_measured_beside_the_reference(capsys):
    assert bench_startup.main(["--only", "import mjoa_gym", "--repetitions", "1"]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0]: cells[1:] for cells in lines if len(cells) == 5}
    assert float(rows["| the reference"][0]) > 0
    assert float(rows["| import mjoa_gym"][1]) > 0
