"""Action views and observations that go together."""

import pytest

from mjoa_gym.envs import OBSERVERS
from mjoa_gym.envs.actions import ACTION_VIEWS, MenuView

PAIRS = [
    (action, observation)
    for action, view in ACTION_VIEWS.items()
    for observation in OBSERVERS
    if observation != "outlook" or issubclass(view, MenuView)
]
every_pair = pytest.mark.parametrize(("action", "observation"), PAIRS)
