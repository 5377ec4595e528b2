"""What an action view is: one way for an agent to say what it wants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.instance import Plan
from mjoa_gym.rounds import Decision
from mjoa_gym.scenario import Scenario


class ActionView(ABC):
    """Turns an agent's actions into decisions; one object per environment.

    A view may ask for several actions per round (for instance one per UE): `decode` then returns
    None until the decision is complete, and `extra_observation` tells the agent where it stands.

    Attributes:
        scenario: The setting.
        streaming: Whether parameters persist, so that prefetching makes sense.
        space: The action space.
    """

    space: gym.Space[Any]

    def __init__(self, scenario: Scenario, streaming: bool) -> None:
        self.scenario = scenario
        self.streaming = streaming
        self.shape = (scenario.n_ues, scenario.tables.width)

    @abstractmethod
    def decode(self, action: Any, dnn: NDArray[np.int64]) -> Decision | None:
        """The decision that an action stands for, or None if the round needs more actions.

        Args:
            action: From `space`.
            dnn: (N,) network of each UE in this round.

        Raises:
            ValueError: Naming what is not allowed; the view is unchanged then.
        """

    @abstractmethod
    def encode(self, plan: Plan) -> Any:
        """The action that stands for a plan, or the nearest one that the view can say."""

    def restart(self) -> None:
        """Forget the actions of an unfinished round; an episode starts."""
        return

    def extra_spaces(self) -> dict[str, gym.Space[Any]]:
        """Entries that the view adds to the observation space."""
        return {}

    def extra_observation(self) -> dict[str, NDArray[Any]]:
        """Their values now, newly allocated."""
        return {}
