"""Learned policies as agents: they get the usual observations, and act through their view.

A saved agent is a folder with `policy.pt` (only weights, no code), `card.yaml` (its properties,
training and results) and `README.md` (the card for readers).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from agents import cards
from agents.policies import UeDQNPolicy, UePolicy
from mjoa_gym import Scenario
from mjoa_gym.envs.actions import action_view
from mjoa_gym.envs.outlook import PROPERTIES, Outlook, properties_of
from mjoa_gym.validation import choice

POLICIES: dict[str, tuple[type[BasePolicy], str]] = {
    "ppo": (UePolicy, "multidiscrete"),
    "dqn": (UeDQNPolicy, "discrete"),
}
"""The policy's class by algorithm, and its action view unless the card names another one."""

State = tuple[np.ndarray, ...] | None


class LearnedAgent:
    """A policy behind Stable-Baselines3's `predict`, for environments with dictionary observations.

    Attributes:
        policy: An SB3 policy on the `Outlook` of a scenario.
        outlook: Turns observations into the input of the policy.
        card: The agent's card.
    """

    batches = True
    observation = "dict"

    def __init__(
        self, policy: BasePolicy, outlook: Outlook, card: Mapping[str, Any] | None = None
    ) -> None:
        self.policy = policy
        self.outlook = outlook
        self.card = dict(card or {})

    @property
    def action_view(self) -> str:
        """The action view of the environments that it acts in."""
        return action_of(self.card)

    @property
    def scenario(self) -> Scenario:
        """The scenario that it acts in."""
        return self.outlook.view.scenario

    @property
    def persists(self) -> bool:
        """Whether it was trained where UEs and their parameters stay."""
        return self.outlook.view.persists

    def predict(
        self,
        observation: Mapping[str, Any],
        state: State = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], State]:
        """Return the action for a dictionary observation, or for a batch of them.

        Args:
            observation: An observation of one environment, or of several with a leading axis.
            state: Returned unchanged; the agent has no memory.
            episode_start: Not used.
            deterministic: Whether to take the most likely action, or to draw one.

        Returns:
            The action, with the same leading axis, and the state.
        """
        if np.ndim(observation["dnn"]) == 1:
            batch = {key: np.asarray(value)[None] for key, value in observation.items()}
            return self.predict(batch, state, episode_start, deterministic)[0][0], state
        action, _ = self.policy.predict(self.outlook(observation), deterministic=deterministic)
        return action, state

    def save(self, folder: Path | str) -> Path:
        """Write weights and card to a folder, and return it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.policy.state_dict(), folder / "policy.pt")
        cards.write(self.card, folder)
        return folder

    @staticmethod
    def load(
        folder: Path | str,
        scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
        n_ues: int | None = None,
    ) -> LearnedAgent:
        """Read a saved agent.

        Args:
            folder: The folder in which it was saved.
            scenario: The scenario in which it acts; None for the one in which it was trained.
            n_ues: Number of UEs; overrides the scenario's.

        Raises:
            ValueError: If the folder has no agent, or an agent of another version.
        """
        card = cards.read(Path(folder))
        trained, persists = Scenario.of(card["scenario"]), card["persists"]
        given = trained if scenario is None else Scenario.of(scenario)
        own, needed = (", ".join(properties_of(s, persists)) or "none" for s in (given, trained))
        if own != needed:
            raise ValueError(
                f"{folder}: the agent was trained in a scenario with these properties: {needed};"
                f" scenario {given.name!r} has these: {own}. They must agree in"
                f" {', '.join(PROPERTIES)}. A scenario with `base: {trained.name}` may fit"
            )
        outlook = outlook_of(action_of(card), given.with_changes(n_ues=n_ues), persists)
        policy = new_policy(card["algorithm"], outlook, card["width"])
        weights = torch.load(Path(folder) / "policy.pt", map_location="cpu", weights_only=True)
        try:
            policy.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{folder}: the weights do not fit the card: {error}") from error
        policy.set_training_mode(False)
        return LearnedAgent(policy, outlook, card)


def action_of(card: Mapping[str, Any]) -> str:
    """Return the action view of the agent that a card describes."""
    usual = POLICIES[choice("algorithm", card["algorithm"], tuple(POLICIES))][1]
    return str(card.get("action", usual))


def outlook_of(action: str, scenario: Scenario, persists: bool) -> Outlook:
    """Return the observation of a policy that acts in a scenario through an action view."""
    return Outlook(action_view(action, scenario, persists))


def new_policy(algorithm: str, outlook: Outlook, width: int) -> BasePolicy:
    """Make an untrained policy for an outlook."""
    kind: Any = POLICIES[algorithm][0]
    return kind(outlook.space, outlook.view.space, lambda _: 0.0, width=width)
