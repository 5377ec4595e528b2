"""Chooses the frozen scenarios of streaming, and plays MJOA-MU in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mjoa_gym import DNN
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.bench.frozen import draws_of, read_scenes, scenes
from mjoa_gym.evaluation.bench.playing import NO_LIMIT, episode_cost
from mjoa_gym.evaluation.bench.result import DYNAMIC
from mjoa_gym.evaluation.bench.running import Asked, run
from mjoa_gym.evaluation.processes import Playing
from mjoa_gym.world.scenario import Scenario

FIRST_SEED, SEEDS, APART, ROUNDS = 4_000_000, 50, 1_000, 12
"""First seed; nothing else in this repository uses seeds from here."""
CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "crowded": {"base": "crowded", "n_ues": 12},
    "roomy": {"base": "roomy-server", "n_ues": 4},
    "slow-uplink": {"base": "slow-uplink", "n_ues": 4, "period_s": 2.0},
    "measured": {"base": "measured-uplink"},
    "chains": {"base": "chains", "n_ues": 6, "server_memory_bytes": 128e6},
    "ideal": {"base": "ideal"},
    "ideal-roomy": {
        "base": "ideal", "n_ues": 8, "server_memory_bytes": 1e9, "bandwidth_hz": 50e6,
        "period_s": 0.5,
    },
    "drift": {
        "n_ues": 3, "speed_m_per_s": 15.0, "shadowing_correlation": 0.5,
        "departure_probability": 0.1, "bandwidth_hz": 40e6,
    },
    "costs": {
        "n_ues": 4, "dnns": list(DNN.names()), "energy_price_s_per_j": 0.1,
        "deadline_factor_min": 0.4, "deadline_factor_max": 0.9, "miss_price_s": 0.5,
    },
}  # fmt: skip
"""Differences from the defaults, by identifier."""


def frozen_scenarios() -> dict[str, Any]:
    """Return the scenarios with all fields, their seeds, and hashes of what these draw."""
    found: dict[str, Any] = {}
    for k, (name, changes) in enumerate(CHANGES.items()):
        scenario = Scenario.from_dict(changes).with_changes(name=f"bench-{name}", rounds=ROUNDS)
        first = FIRST_SEED + APART * k
        seeds = {"first_seed": first, "last_seed": first + SEEDS - 1}
        found[name] = {**seeds, "fields": scenario.to_dict()}
    for name, scene in read_scenes({"scenarios": found}).items():
        found[name]["draws"] = draws_of(scene)
    return {"schema": "mjoa-gym/bench-scenarios/1", "scenarios": found}


def reference_costs(runs: Path) -> dict[str, list[float]]:
    """Return the cost of every episode with MJOA-MU without a limit, by scenario."""
    asked = Asked((DYNAMIC,), (NO_LIMIT,))
    result, remarks = run(source_of("mjoa-mu"), "mjoa-mu", asked, Playing(1), runs / "reference")
    if remarks or result.lacks(DYNAMIC, NO_LIMIT):
        raise ValueError("; ".join(remarks) or "episodes are missing")
    return {
        scene.id: [
            episode_cost(result.answer(DYNAMIC, NO_LIMIT, (scene.id, str(seed))), NO_LIMIT)
            for seed in scene.seeds
        ]
        for scene in scenes().values()
    }
