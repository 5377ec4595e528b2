"""`MJOA/Streaming-v0`: UEs stay, and what they upload stays with them."""

from __future__ import annotations

from typing import ClassVar

from mjoa_gym.envs.base import RoundsEnv


class StreamingEnv(RoundsEnv):
    """Partition, share, and decide what to upload for later: UEs and their parameters persist.

    As `MJOA/ColdStart-v0`, but UEs stay and issue one inference in every round. A round lasts
    `max(period_s, the slowest inference)`. Parameters that have reached the server by its end,
    complete or in part, are there in the next round. A UE may *prefetch* layers that its present
    inference does not need: they go up when the uplink share would idle, until the round ends.
    Between two rounds the server keeps at most `server_memory_bytes` of parameters and drops the
    least recently used layers first; UEs walk, their shadowing drifts and their fading is drawn
    anew; some leave, their parameters with them, and others with another network take their
    place. What is best for this round is therefore not best for the episode.
    `help("mjoa_gym.envs.RoundsEnv")` has actions, observations, rewards and arguments.
    """

    persists: ClassVar[bool] = True
    title: ClassVar[str] = "Streaming"
