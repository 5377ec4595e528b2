"""Behaviour cloning: a policy learns to imitate a planner before it learns from rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor
from tqdm import tqdm

from mjoa_gym.envs.outlook import Outlook
from mjoa_gym.evaluation.agent import PlannerAgent

N_ENVS = 16
"""Number of environments in which a planner demonstrates at once."""


class Demonstrations(NamedTuple):
    """A planner's decisions in several environments at once, one row per environment and round."""

    tokens: NDArray[np.float32]  # (rounds, N, columns) outlooks before any decision
    actions: NDArray[np.int64]  # (rounds, N * numbers) its actions
    rewards: NDArray[np.float64]  # (rounds,) rewards of the rounds
    follows: NDArray[np.int64]  # (rounds,) index of the next round of the same episode, or -1


def demonstrate(
    env_id: str,
    planner: PlannerAgent,
    rounds: int,
    seed: int,
    view: str,
    **arguments: Any,
) -> Demonstrations:
    """Let a planner play through a learned view.

    Args:
        env_id: The environment.
        planner: Plans each round from observations.
        rounds: Minimum number of rounds to play.
        seed: Seed of the first environment.
        view: "multidiscrete", "shares", or a view with which a round is N steps.
        **arguments: Arguments of the environment.
    """
    arguments |= {"action": view, "observation": "dict", "autoreset_mode": "same_step"}
    envs: Any = gym.make_vec(env_id, N_ENVS, vectorization_mode="vector_entry_point", **arguments)
    core = envs.unwrapped.core
    outlook = Outlook(core.view)
    one_by_one = core.view.one_by_one
    tokens, actions, rewards, goes_on = [], [], [], []
    observation, _ = envs.reset(seed=seed)
    steps = -(-rounds // N_ENVS)
    for _ in range(steps):
        tokens.append(outlook(observation))
        actions.append(planner.nearest(core.view, observation))
        for action in actions[-1].T if one_by_one else [actions[-1]]:
            observation, reward, _, over, _ = envs.step(action)
        rewards.append(reward)
        goes_on.append(~over)
    goes_on[-1][:] = False
    later = np.arange(steps * N_ENVS).reshape(-1, N_ENVS) + N_ENVS
    return Demonstrations(
        np.concatenate(tokens),
        np.concatenate(actions),
        np.concatenate(rewards),
        np.where(goes_on, later, -1).ravel(),
    )


def joined(parts: Sequence[Demonstrations]) -> Demonstrations:
    """Join several demonstrations."""
    first = np.cumsum([0, *(len(part.rewards) for part in parts)])
    shifted = [
        part._replace(follows=np.where(part.follows < 0, -1, part.follows + offset))
        for part, offset in zip(parts, first, strict=False)
    ]
    return Demonstrations(*map(np.concatenate, zip(*shifted, strict=True)))


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

    Bids of UEs that need nothing have no meaning and do not count.

    Returns:
        The mean cross-entropy of a number in the last epoch.
    """
    space: Any = policy.action_space
    nvec = space.nvec
    tokens, actions = torch.as_tensor(seen.tokens), torch.as_tensor(seen.actions)
    counts = torch.as_tensor(_counts(seen, nvec))
    actor: Any = policy.mlp_extractor.actor
    optimizer = torch.optim.Adam(actor.parameters(), learning_rate)
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
    """Return (B, N * numbers) the log-probability of each number of the actions."""
    parts: Any = policy.get_distribution(tokens).distribution  # a categorical for each number
    each = [part.log_prob(own) for part, own in zip(parts, actions.T, strict=True)]
    return torch.stack(each, dim=1)


def _counts(seen: Demonstrations, nvec: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (rounds, N * numbers): 1 for numbers with a meaning; bids alone always have one."""
    n_ues = seen.tokens.shape[1]
    own = seen.actions.reshape(len(seen.actions), n_ues, -1)
    means = np.ones(own.shape, np.float32)
    if own.shape[-1] > 2:
        means[..., -1] = own[..., 0] > 0
        means[..., -2] = (own[..., :-2] > 0).any(axis=-1)
    return means.reshape(seen.actions.shape)
