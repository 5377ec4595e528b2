"""PettingZoo's parallel interface, in which every UE is an agent (extra `multiagent`)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from mjoa_gym.envs import ColdStartEnv, RoundsEnv, StreamingEnv
from mjoa_gym.envs.core import ARGUMENTS, ScenarioLike, refuse_unknown
from mjoa_gym.envs.observation import columns_of
from mjoa_gym.validation import choice

ENVIRONMENTS: dict[str, type[RoundsEnv]] = {
    "MJOA/ColdStart-v1": ColdStartEnv,
    "MJOA/Streaming-v1": StreamingEnv,
}
ACTIONS = ("multidiscrete", "box", "shares", "shares-box")
OBSERVATIONS = ("flat", "outlook")
REWARDS = ("team", "own")
Flags = dict[str, bool]
Infos = dict[str, dict[str, Any]]
Step = tuple[dict[str, Any], dict[str, float], Flags, Flags, Infos]


class OffloadingParallelEnv(ParallelEnv[str, Any, Any]):
    """N agents `ue_0`, `ue_1`, ...: each chooses its UE's placement and bids, or bids alone.

    A share is an agent's bid over the sum of the bids of all agents that need the resource, so
    agents compete for band and server. When a UE leaves (streaming), its agent continues with the
    UE that replaces it.

    An agent's observation is the environment's observation, beginning with its own UE. `state()`
    is the same, beginning with UE 0. An agent's action is its UE's part of the environment's action
    (see `mjoa_gym.envs.RoundsEnv`). `infos[agent]` has the same keys as the environment's `info`,
    with the UE's own `latency_s`, `local_s`, `energy_j`, `missed`, `left` and `action_mask` (a
    tuple with an array for each number, for `action_space(agent).sample(mask)`).

    Args:
        env_id: "MJOA/ColdStart-v1" or "MJOA/Streaming-v1".
        action: "multidiscrete", "box", "shares" or "shares-box".
        reward: "team": all agents get the environment's reward, the weighted reduction of all UEs'
            costs. "own": each agent gets the reduction of its own UE's cost: 1 minus the cost of
            its inference over the cost of running it all-local. This is 1 - T / T(local) unless
            energy or missed deadlines have a price.
        n_ues: As for the environment, like the other arguments.
        scenario: Anything that `Scenario.of` accepts.
        rounds: Length of an episode.
        render_mode: "rgb_array" or "ansi".
        observation: "flat" or "outlook"; the default depends on the action view.

    Raises:
        ValueError: If an argument is invalid; names it, its value and what is allowed.
    """

    def __init__(
        self,
        env_id: str = "MJOA/ColdStart-v1",
        action: str = "multidiscrete",
        reward: str = "team",
        n_ues: int | None = None,
        scenario: ScenarioLike = None,
        rounds: int | None = None,
        render_mode: str | None = None,
        observation: str | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(self, unknown, (*ARGUMENTS, "env_id", "reward"))
        make = ENVIRONMENTS[choice("env_id", env_id, tuple(ENVIRONMENTS))]
        self.reward = choice("reward", reward, REWARDS)
        if observation is not None:
            choice("observation", observation, OBSERVATIONS)
        self.env = make(
            choice("action", action, ACTIONS), n_ues, scenario, rounds, render_mode, observation
        )
        self.metadata = self.env.metadata | {"name": env_id, "is_parallelizable": True}
        self.render_mode = render_mode
        self.possible_agents = [f"ue_{i}" for i in range(self.env.scenario.n_ues)]
        self.agents: list[str] = []
        self.state_space = self.env.observation_space
        self.observation_spaces = {
            agent: gym.spaces.Box(0.0, 1.0, self.state_space.shape, np.float32)
            for agent in self.possible_agents
        }
        self.action_spaces = {agent: self._own_space() for agent in self.possible_agents}
        self._seen: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Return the observation space of an agent; the spaces of all agents are equal."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Return the action space of an agent; the spaces of all agents are equal."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], Infos]:
        """Start an episode with fresh UEs and an empty server; options are ignored."""
        self._seen, info = self.env.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self._observations(), self._infos(info)

    def step(self, actions: dict[str, Any]) -> Step:
        """Play one round. After the end, when there are no agents, an empty step does nothing.

        Raises:
            ValueError: If an action is missing or not allowed; nothing has changed then.
            ResetNeeded: Before the first `reset`, and if there are actions after the end.
        """
        if not self.agents:
            if actions or not self._seen.size:
                raise ResetNeeded("the episode is over or has not begun: call reset() first")
            return {}, {}, {}, {}, {}
        if set(actions) != set(self.agents):
            raise ValueError(
                f"actions: got {sorted(actions)}; there must be one for each of {self.agents}"
            )
        for agent, action in actions.items():
            if np.shape(action) != self.action_spaces[agent].shape:
                raise ValueError(
                    f"actions[{agent!r}] has shape {np.shape(action)};"
                    f" {self.action_spaces[agent].shape} is needed"
                )
        joint = np.concatenate([np.asarray(actions[agent]) for agent in self.agents])
        self._seen, reward, _, truncated, info = self.env.step(joint)
        rewards = np.full(len(self.agents), reward)
        if self.reward == "own":
            outcome = self.env.core.outcome
            assert outcome is not None
            rewards = outcome.own_reward[0]
        agents, observations, infos = self.agents, self._observations(), self._infos(info)
        if truncated:
            self.agents = []
        return (
            observations,
            dict(zip(agents, rewards.tolist(), strict=True)),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, truncated),
            infos,
        )

    def state(self) -> NDArray[np.float32]:
        """Return the observation that begins with UE 0; it exists after the first `reset`."""
        if not self._seen.size:
            raise ResetNeeded("there is no state: call reset() first")
        return self._seen.copy()

    def render(self) -> Any:
        """Render as the environment does."""
        return self.env.render()

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _own_space(self) -> gym.Space[Any]:
        joint, n = self.env.action_space, len(self.possible_agents)
        if isinstance(joint, gym.spaces.MultiDiscrete):
            return gym.spaces.MultiDiscrete(joint.nvec[: len(joint.nvec) // n])
        assert isinstance(joint, gym.spaces.Box)
        return gym.spaces.Box(-1.0, 1.0, (joint.shape[0] // n,), np.float32)

    def _observations(self) -> dict[str, Any]:
        return {agent: self._beginning_with(i) for i, agent in enumerate(self.possible_agents)}

    def _beginning_with(self, i: int) -> NDArray[np.float32]:
        if self._seen.ndim == 2:  # an outlook, a row for each UE
            return np.roll(self._seen, -i, axis=0)
        n = len(self.possible_agents)
        of_ues = n * columns_of(self.env.scenario, self.env.persists)  # the rest belongs to all UEs
        blocks, rest = self._seen[:of_ues].reshape(n, -1), self._seen[of_ues:]
        return np.append(np.roll(blocks, -i, axis=0), rest)

    def _infos(self, info: dict[str, Any]) -> Infos:
        infos: Infos = {agent: {} for agent in self.agents}
        for i, own in enumerate(infos.values()):
            for key, value in info.items():
                own[key] = value[i].item() if isinstance(value, np.ndarray) else value
            if "action_mask" in info:
                n = len(info["action_mask"]) // len(infos)
                own["action_mask"] = info["action_mask"][i * n : (i + 1) * n]
        return infos
