"""Behaviour cloning: a policy learns to choose as a planner does, before it learns from rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor
from tqdm import tqdm

from agents.outlook import Outlook
from mjoa_gym import Instance, Plan, decode_observation
from mjoa_gym.actions import MultiDiscreteView


class Demonstrations(NamedTuple):
    """What a planner does.

    Attributes:
        tokens: (rounds, N, columns) float32, outlooks.
        actions: (rounds, N * numbers) its actions.
    """

    tokens: NDArray[np.float32]
    actions: NDArray[np.int64]


def demonstrate(
    env_id: str,
    planner: Callable[[Instance], Plan],
    rounds: int,
    seed: int,
    n_envs: int = 16,
    progress: bool = True,
    **arguments: Any,
) -> Demonstrations:
    """Let a planner play through the `multidiscrete` view.

    Args:
        env_id: The environment.
        planner: Plans each round.
        rounds: How many rounds to see, at least.
        seed: Of the first environment.
        n_envs: Environments at once.
        progress: Whether to show a bar.
        **arguments: The environment's.
    """
    arguments |= {"action": "multidiscrete", "observation": "dict"}
    envs: Any = gym.make_vec(env_id, n_envs, vectorization_mode="vector_entry_point", **arguments)
    view = envs.unwrapped.core.view
    outlook = Outlook(view)
    tokens, actions = [], []
    observation, _ = envs.reset(seed=seed)
    for _ in tqdm(range(-(-rounds // n_envs)), desc="cloning: demonstrations", disable=not progress):
        chosen = [_act(view, planner, observation, e) for e in range(n_envs)]
        tokens.append(outlook(observation))
        actions.append(np.stack(chosen))
        observation, *_ = envs.step(actions[-1])
    return Demonstrations(np.concatenate(tokens), np.concatenate(actions))


def _act(
    view: MultiDiscreteView, planner: Callable[[Instance], Plan], observation: Any, e: int
) -> NDArray[np.int64]:
    instance = decode_observation({k: v[e] for k, v in observation.items()}, view.scenario)
    return view.encode(planner(instance), instance)


def clone(
    policy: ActorCriticPolicy,
    seen: Demonstrations,
    epochs: int,
    seed: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    progress: bool = True,
) -> float:
    """Fit the policy's actor to demonstrations, by cross-entropy.

    Bids of UEs that need nothing say nothing and do not count.

    Returns:
        The mean cross-entropy of a number in the last epoch.
    """
    nvec = policy.action_space.nvec  # type: ignore[attr-defined]
    tokens, actions = torch.as_tensor(seen.tokens), torch.as_tensor(seen.actions)
    counts = torch.as_tensor(_counts(seen, nvec))
    optimizer = torch.optim.Adam(policy.mlp_extractor.actor.parameters(), learning_rate)  # type: ignore[attr-defined]
    order = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    for _ in tqdm(range(epochs), desc="cloning: epochs", disable=not progress):
        losses = []
        for batch in torch.randperm(len(tokens), generator=order).split(batch_size):
            log_probability = _log_probabilities(policy, tokens[batch], actions[batch])
            loss = -(log_probability * counts[batch]).sum() / counts[batch].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return float(np.mean(losses))


def _log_probabilities(policy: ActorCriticPolicy, tokens: Tensor, actions: Tensor) -> Tensor:
    """(B, N * numbers) of each number of the actions."""
    parts = policy.get_distribution(tokens).distribution  # one categorical for each number
    each = [part.log_prob(own) for part, own in zip(parts, actions.T, strict=True)]
    return torch.stack(each, dim=1)


def _counts(seen: Demonstrations, nvec: NDArray[np.int64]) -> NDArray[np.float32]:
    """(rounds, N * numbers) 1 for numbers that mean something."""
    n_ues = seen.tokens.shape[1]
    own = seen.actions.reshape(len(seen.actions), n_ues, -1)
    means = np.ones(own.shape, np.float32)
    means[..., -1] = own[..., 0] > 0
    means[..., -2] = (own[..., :-2] > 0).any(axis=-1)
    return means.reshape(seen.actions.shape)
