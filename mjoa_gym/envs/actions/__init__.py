"""Action views, by name: different ways to express a decision to the same environment."""

from mjoa_gym.envs.actions.base import ActionView
from mjoa_gym.envs.actions.box import BoxView
from mjoa_gym.envs.actions.choices import MenuView
from mjoa_gym.envs.actions.discrete import DiscreteView
from mjoa_gym.envs.actions.multidiscrete import MultiDiscreteView
from mjoa_gym.envs.actions.one_by_one import OneByOneView
from mjoa_gym.envs.actions.plan import PlanView, Shares
from mjoa_gym.envs.actions.response import SharesView
from mjoa_gym.envs.actions.shares import (
    SharesBoxView,
    SharesDiscreteView,
    SharesMultiDiscreteView,
)
from mjoa_gym.validation import choice
from mjoa_gym.world.scenario import Scenario

ACTION_VIEWS: dict[str, type[ActionView]] = {
    "plan": PlanView,
    "box": BoxView,
    "multidiscrete": MultiDiscreteView,
    "discrete": DiscreteView,
    "shares": SharesMultiDiscreteView,
    "shares-box": SharesBoxView,
    "shares-discrete": SharesDiscreteView,
}


def action_view(name: str, scenario: Scenario, persists: bool, n_envs: int = 1) -> ActionView:
    """Return the named view for E environments of a scenario; a ValueError lists the names."""
    return ACTION_VIEWS[choice("action", name, tuple(ACTION_VIEWS))](scenario, persists, n_envs)


__all__ = [
    "ACTION_VIEWS", "ActionView", "BoxView", "DiscreteView", "MenuView", "MultiDiscreteView",
    "OneByOneView", "PlanView", "Shares", "SharesBoxView", "SharesDiscreteView",
    "SharesMultiDiscreteView", "SharesView", "action_view",
]  # fmt: skip
