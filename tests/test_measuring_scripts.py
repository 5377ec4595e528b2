"""The scripts behind numbers in the docs measure what they say."""

import sys
from itertools import product
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml

import mjoa_gym  # noqa: F401 - registers the environments
from mjoa_gym import Scenario, decode_observation
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.episodes import Setting, play
from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.planners.menu import menu_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import bench_startup
import streaming_bound
from streaming_floor import GRAIN_BYTES, best_sets, floors, sets_of_layers, with_resident
from throughput.contenders import IDS
from throughput.parts import seconds_of_parts
from view_loss import VIEWS, Through

SMALL = Scenario(
    dnns=("alexnet", "squeezenet1_1"), granularity="block", n_ues=3, server_memory_bytes=5e6
)


def first_instances(n):
    env = gym.make("MJOA/Streaming-v1", scenario=SMALL)
    return [decode_observation(env.reset(seed=seed)[0], SMALL) for seed in range(n)]


def test_the_knapsack_finds_the_best_parameters_within_memory():
    menu = menu_of(SMALL, streaming=True)
    shares = np.array([[0.5, 0.2], [0.2, 0.5], [0.3, 0.3]])
    for instance in first_instances(4):
        packed = instance.packed

        def value(i, resident, packed=packed, instance=instance):
            ue = instance.ues[i]
            d = SMALL.profiles.index(ue.dnn)
            rows = np.ascontiguousarray(menu.placements[d, : menu.size[d], : ue.dnn.n_layers])
            missing = ue.dnn.parameter_bytes * (1.0 - resident)
            inference = packed_inference(packed, i)._replace(missing_bytes=missing)
            link = packed_link(packed, i, *shares[i])
            return ue.weight * kernel.run_many(rows, inference, link).min()

        options = []
        for i, ue in enumerate(instance.ues):
            d = SMALL.profiles.index(ue.dnn)
            rows = menu.placements[d, : menu.size[d], : ue.dnn.n_layers]
            sets = sets_of_layers(rows, ue.dnn.parameter_bytes)
            costs = np.ceil((sets * ue.dnn.parameter_bytes).sum(axis=1) / GRAIN_BYTES)
            cheapest = {}
            for own, cost in zip(sets, costs, strict=True):
                cheapest[cost] = min(cheapest.get(cost, np.inf), value(i, own))
            options.append(cheapest.items())
        room = SMALL.server_memory_bytes / GRAIN_BYTES
        brute = min(
            sum(seconds_ for _, seconds_ in chosen)
            for chosen in product(*options)
            if sum(cost for cost, _ in chosen) <= room
        )
        found = best_sets(instance, SMALL, menu, shares)
        assert sum(value(i, own) for i, own in enumerate(found)) == pytest.approx(brute)
        used = sum(
            own @ ue.dnn.parameter_bytes for own, ue in zip(found, instance.ues, strict=True)
        )
        assert used <= SMALL.server_memory_bytes


def test_floors_are_below_what_an_empty_server_allows():
    menu = menu_of(SMALL, streaming=True)
    for instance in first_instances(2):
        within_memory, everything = floors(instance, SMALL, menu)
        nothing = with_resident(instance, [np.zeros(ue.dnn.n_layers) for ue in instance.ues])[1]
        assert everything <= within_memory * (1 + 1e-9) <= nothing * (1 + 2e-9)


def test_distances_to_the_streaming_bound(tmp_path, capsys):
    """Nobody is below it, and the certified bound is not above what it aims at."""
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL.with_changes(name="small", rounds=4).to_dict()))
    assert streaming_bound.main(["--episodes", "2", "--scenario", str(file)]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    means = {cells[0].strip("| "): float(cells[1].split(" ")[0]) for cells in lines}
    assert set(means) == {*streaming_bound.PLANNERS, streaming_bound.AIM, streaming_bound.BOUND}
    assert means.pop(streaming_bound.BOUND) <= min(means.values())


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
