"""The rounds of whole episodes that a planner plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mjoa_gym import Instance, Plan
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.episodes import Setting, play
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.planners.registry import Planner


class PlayedRound(NamedTuple):
    """A round: its problem, the planner's answer, and its measurements (see `play`)."""

    instance: Instance
    plan: Plan
    row: Row


def played_rounds(planner: Planner, setting: Setting, seeds: Sequence[int]) -> list[PlayedRound]:
    """Let a planner play an episode per seed."""
    seen = []

    def watched(instance: Instance) -> Plan:
        seen.append((instance, planner(instance)))
        return seen[-1][1]

    agent = PlannerAgent(watched, setting.scenario)
    told = bar(seeds, unit="episode", leave=False)
    rows = [row for seed in told for row in play(agent, setting, [seed])[0]]
    return [PlayedRound(*pair, row) for pair, row in zip(seen, rows, strict=True)]
