"""Measure how much of a planner's answer a learned action view can express, by playing through it.

    python scripts/view_loss.py far-sighted --environment streaming

To beat a planner, a policy in this view must at least beat what the view can express of the plans.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.training.validation import FIRST_SEED
from mjoa_gym import Scenario
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.envs.actions import action_view
from mjoa_gym.evaluation import compare
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.episodes import Setting

VIEWS = ("multidiscrete", "discrete", "shares", "shares-box", "shares-discrete")


class Through:
    """A planner that acts through a learned view."""

    batches = True
    observation = "dict"

    def __init__(self, planner: PlannerAgent, name: str, setting: Setting) -> None:
        self.action_view = name
        self._planner = planner
        self._view = action_view(name, setting.scenario, setting.persists)
        self._round = np.empty((0, 0))  # its actions

    def predict(self, observation: Any) -> Any:
        """Return the nearest actions; those of one UE each if UEs decide one by one."""
        turn = int(observation["turn"][0, 0]) if "turn" in observation else 0
        if turn == 0:
            self._round = self._planner.nearest(self._view, observation)
        return self._round[:, turn] if self._view.one_by_one else self._round


def main(argv: list[str] | None = None) -> int:
    """Play the same validation episodes through every view."""
    parser = command_line(__doc__)
    parser.add_argument("planner", help="a planner's name")
    parser.add_argument("--environment", default="streaming", help="(%(default)s)")
    parser.add_argument("--scenario", default="default", help="name or file (%(default)s)")
    parser.add_argument("--episodes", type=int, default=50, help="(%(default)s)")
    args = parser.parse_args(argv)
    setting = Setting(args.environment, Scenario.of(args.scenario))
    planner = source_of(args.planner).agent(setting)
    if not isinstance(planner, PlannerAgent):
        parser.error(
            f"{args.planner} acts through a view of its own: only planners can be measured"
        )
    agents = {"plan": planner} | {name: Through(planner, name, setting) for name in VIEWS}
    played = compare(
        agents, args.environment, args.episodes, FIRST_SEED, scenario=setting.scenario,
        reference="plan", processes=0,
    )  # fmt: skip
    print(played.table())
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
