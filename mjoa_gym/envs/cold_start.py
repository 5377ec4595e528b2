"""`MJOA/ColdStart-v0`: every round brings fresh UEs and a server that holds nothing of theirs."""

from __future__ import annotations

from typing import ClassVar

from mjoa_gym.envs.base import RoundsEnv


class ColdStartEnv(RoundsEnv):
    """Partition networks and share band and server among UEs whose models are nowhere but on them.

    Rounds are independent: fresh UEs, nothing resident. This is our formulation of the setting of
    MJOA-MU (Yang et al., *Computer Networks* 231, 2023). `help("mjoa_gym.envs.RoundsEnv")` has
    actions, observations, rewards and arguments.
    """

    persists: ClassVar[bool] = False
    title: ClassVar[str] = "ColdStart"
