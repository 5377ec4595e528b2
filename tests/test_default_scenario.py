"""The default task is worth learning: neither extreme wins, and UEs want different things."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import decode_observation

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from describe_scenarios import main, ranges, seconds_of_ranges


@pytest.fixture(scope="module")
def brute_force():
    """Per UE of 60 rounds at equal shares: local, all-edge and best seconds, and the best range."""
    env = gym.make("MJOA/ColdStart-v1", rounds=60).unwrapped
    observation, _ = env.reset(seed=0)
    menus = {dnn.name: ranges(dnn.n_layers) for dnn in env.scenario.profiles}
    found = []
    for _ in range(60):
        instance = decode_observation(observation, env.scenario)
        for i, ue in enumerate(instance.ues):
            menu, seconds = menus[ue.dnn.name], seconds_of_ranges(instance, i)
            best = int(seconds.argmin())
            found.append((ue.dnn.name, seconds[0], seconds[-1], seconds[best], tuple(menu[best])))
        nothing = {"placements": np.zeros(env.action_space["placements"].shape, np.int8)}
        nothing |= {key: np.zeros(5) for key in ("bandwidth_share", "compute_share")}
        observation, *_ = env.step(nothing)
    return found


def test_neither_extreme_wins(brute_force):
    _, local, edge, best, _ = zip(*brute_force, strict=True)
    local, edge, best = (np.reshape(x, (60, 5)).sum(axis=1) for x in (local, edge, best))
    assert 0.15 < np.mean(1 - best / local) < 0.6
    assert np.mean(edge < local) < 0.05
    assert np.mean(best < 0.95 * local) > 0.9


def test_good_placements_differ(brute_force):
    kinds = [
        "local"
        if not any(p)
        else "prefix"
        if p[0] and not p[-1]
        else "middle"
        if not p[-1]
        else "to the end"
        for *_, p in brute_force
    ]
    share = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert max(share.values()) < 0.6
    assert min(share[kind] for kind in ("prefix", "middle")) > 0.2
    for name in {found[0] for found in brute_force}:
        assert len({found[4] for found in brute_force if found[0] == name}) >= 4


def test_tables_are_printed(capsys):
    assert main(["slow-uplink", "--episodes", "1", "--streaming-episodes", "1"]) == 0
    cold, streaming, balance = capsys.readouterr().out.strip().split("\n\n")
    assert balance.startswith("`slow-uplink`: uplink at an equal share ")
    kinds = [float(cell.strip(" %")) for cell in cold.splitlines()[-1].split("|")[4:-1]]
    assert sum(kinds) == pytest.approx(100.0, abs=0.2)
    nothing, everything, _ = (float(c) for c in streaming.splitlines()[-1].split("|")[2:-1])
    assert nothing < everything
