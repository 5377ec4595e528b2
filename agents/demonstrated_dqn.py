"""DQN that learns from a planner's demonstrations: first alone, then with its own experience.

This follows Hester et al., *Deep Q-learning from Demonstrations*, AAAI 2018: the planner's actions
should have the highest values. Instead of their margin we use a cross-entropy over values at a low
temperature. Values of the next state are those of double DQN (van Hasselt et al., AAAI 2016).
Without demonstrations and with `double=False` this is Stable-Baselines3's DQN, except that each
environment explores independently.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from agents.cloning import Demonstrations
from agents.policies import checked
from mjoa_gym.envs.actions.one_by_one import UNDECIDED, OneByOneView


class Shown(NamedTuple):
    """Turns of a planner."""

    tokens: Tensor  # (B, N, columns) outlooks
    actions: Tensor  # (B,) the planner's actions
    returns: Tensor  # (B,) discounted rewards from this turn on


class DemonstratedDQN(DQN):
    """DQN, one UE after the other, with an `Outlook`, and demonstrations if some are shown.

    With `double`, the online network chooses the next action and the target network values it.
    `imitation` is the weight of the demonstrations relative to the temporal differences.
    `temperature` is that of the cross-entropy, in units of the reward: values that differ by less
    are almost equal. The other arguments are those of SB3's `DQN`.
    """

    def __init__(
        self,
        *args: Any,
        double: bool = True,
        imitation: float = 1.0,
        temperature: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.double, self.imitation, self.temperature = double, imitation, temperature
        self.demonstrations: Demonstrations | None = None
        self.returns: NDArray[np.float64] | None = None
        super().__init__(*args, **kwargs)

    def show(self, demonstrations: Demonstrations) -> None:
        """Keep demonstrations, made through the view in which it acts, to learn from them."""
        self.demonstrations = demonstrations
        n_ues = demonstrations.tokens.shape[1]
        self.returns = returns_of(demonstrations, self.gamma**n_ues)

    def clone(self, updates: int, batch_size: int = 256, progress: bool = True) -> None:
        """Learn only from the demonstrations, at a rate that falls from 1e-3 to 0."""
        self.policy.set_training_mode(True)
        optimizer = torch.optim.Adam(self.q_net.parameters())
        for update in tqdm(range(updates), desc="cloning: updates", disable=not progress):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1.0 - update / updates)
            shown = self._shown(batch_size)
            values = self.q_net(shown.tokens)
            chosen = values.gather(1, shown.actions[:, None]).squeeze(1)
            loss = self._imitation(values, shown.actions)
            loss = self.imitation * loss + functional.smooth_l1_loss(chosen, shown.returns)
            self._step(loss, optimizer)
        self.q_net_target.load_state_dict(self.q_net.state_dict())

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """See `DQN.train`; demonstrations count in addition to the replay buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        for _ in range(gradient_steps):
            seen = self.replay_buffer.sample(batch_size)
            discount = self.gamma if seen.discounts is None else seen.discounts
            with torch.no_grad():
                later = self.q_net_target(seen.next_observations)
                judge = self.q_net(seen.next_observations) if self.double else later
                best = later.gather(1, judge.argmax(1, keepdim=True))
                target = seen.rewards + (1 - seen.dones) * discount * best
            values = self.q_net(seen.observations).gather(1, seen.actions.long())
            loss = functional.smooth_l1_loss(values, target)
            if self.demonstrations is not None:
                shown = self._shown(batch_size)
                imitation = self._imitation(self.q_net(shown.tokens), shown.actions)
                loss = loss + self.imitation * imitation
            self._step(loss, self.policy.optimizer)
        self._n_updates += gradient_steps

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.q_net.parameters(), self.max_grad_norm)
        optimizer.step()

    def _imitation(self, values: Tensor, actions: Tensor) -> Tensor:
        """Return the cross-entropy, in units of the reward."""
        return functional.cross_entropy(values / self.temperature, actions) * self.temperature

    def _shown(self, size: int) -> Shown:
        """Return turns of demonstrated rounds, with UEs in random order, as plans have no order."""
        assert self.demonstrations is not None
        assert self.returns is not None
        assert self.env is not None
        view: OneByOneView = self.env.get_attr("core")[0].view
        layout = checked(self.observation_space).layout
        tokens, actions = self.demonstrations.tokens, self.demonstrations.actions
        n_ues = tokens.shape[1]
        rounds = np.random.randint(len(tokens), size=size)  # noqa: NPY002 - what SB3 draws from
        turn = np.random.randint(n_ues, size=size)  # noqa: NPY002
        order = np.argsort(np.random.rand(size, n_ues), axis=1)  # noqa: NPY002
        seen = np.take_along_axis(tokens[rounds], order[:, :, None], axis=1)
        own = np.take_along_axis(actions[rounds], order, axis=1)
        decided = np.where(np.arange(n_ues) < turn[:, None], own, UNDECIDED)
        seen[:, :, layout.ue : layout.context] = view.features_of(decided)
        rotated = (np.arange(n_ues) + turn[:, None]) % n_ues
        seen = np.take_along_axis(seen, rotated[:, :, None], axis=1)
        left = self.gamma ** (n_ues - 1.0 - turn)
        return Shown(
            torch.from_numpy(seen),
            torch.from_numpy(own[np.arange(size), turn]),
            torch.from_numpy((self.returns[rounds] * left).astype(np.float32)),
        )

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Sample random actions at first, unless there are demonstrations; later when exploring."""
        if self.num_timesteps < learning_starts and self.demonstrations is None:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        assert self._last_obs is not None
        actions, _ = self.policy.predict(self._last_obs, deterministic=True)
        explores = np.random.rand(n_envs) < self.exploration_rate  # noqa: NPY002
        for e in np.flatnonzero(explores):
            actions[e] = self.action_space.sample()
        return actions, actions

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "demonstrations", "returns"]


def returns_of(demonstrations: Demonstrations, discount: float) -> NDArray[np.float64]:
    """Return (rounds,) discounted rewards from each round to the end of the recorded episode."""
    returns = demonstrations.rewards.astype(np.float64).copy()
    for now in range(len(returns) - 1, -1, -1):
        then = demonstrations.follows[now]
        if then >= 0:
            returns[now] += discount * returns[then]
    return returns
