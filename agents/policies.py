"""Stable-Baselines3 policies that treat UEs as a set; they use the observation "outlook".

    envs = make_vec_env("MJOA/Streaming-v1", 64, action="multidiscrete", observation="outlook")
    PPO(UePolicy, envs)

Weights do not depend on the number of UEs: `load_state_dict` of a policy trained for 5 UEs fits one
made for 12.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from agents.network import ActionValues, BidValues, ChoiceNetwork, RoundValue
from mjoa_gym.envs.outlook import OutlookSpace


def checked(space: spaces.Space[Any]) -> OutlookSpace:
    """Return the space; raise a TypeError if it belongs to another observation."""
    if not isinstance(space, OutlookSpace):
        raise TypeError(f"observation_space={space}: must be that of observation='outlook'")
    return space


class ActorAndCritic(nn.Module):
    """Both networks with the interface that SB3 expects of an `mlp_extractor`."""

    def __init__(self, space: OutlookSpace, numbers: tuple[int, ...], width: int) -> None:
        super().__init__()
        self._shape = space.shape
        self.actor = ChoiceNetwork(space.layout, numbers, width)
        self.critic = RoundValue(space.layout, width)
        self.latent_dim_pi = space.shape[0] * self.actor.logits
        self.latent_dim_vf = self.critic.width

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the critic's embedding."""
        return self.forward_actor(flat), self.forward_critic(flat)

    def forward_actor(self, flat: Tensor) -> Tensor:
        """Return (B, N * logits)."""
        return self.actor(flat.unflatten(1, self._shape))

    def forward_critic(self, flat: Tensor) -> Tensor:
        """Return (B, embedding)."""
        return self.critic(flat.unflatten(1, self._shape))


class UePolicy(ActorCriticPolicy):
    """Actor and critic for PPO on `multidiscrete` or `shares`, with embeddings of `width`."""

    def __init__(self, *args: Any, width: int = 64, **kwargs: Any) -> None:
        self.width = width
        super().__init__(*args, **{**kwargs, "ortho_init": False})

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.action_space, spaces.MultiDiscrete)
        space = checked(self.observation_space)
        numbers = self.action_space.nvec.reshape(space.shape[0], -1)[0]
        self.mlp_extractor = ActorAndCritic(space, tuple(numbers.tolist()), self.width)  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()  # the actor's outputs are logits already
        optimizer: Any = self.optimizer_class
        self.optimizer = optimizer(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"width": self.width}


class UeQNetwork(QNetwork):
    """Action values on `discrete` or `shares-discrete`."""

    def __init__(self, *args: Any, width: int = 64, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        space = checked(self.observation_space)
        self.width = width
        layout, actions = space.layout, int(self.action_space.n)
        values: nn.Module = (
            BidValues(layout, actions, width)
            if layout.tries_bids
            else ActionValues(layout, actions // layout.entries, width)
        )
        self.q_net = nn.Sequential(nn.Unflatten(1, space.shape), values)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"width": self.width}


class UeDQNPolicy(DQNPolicy):
    """Action values and their target for DQN, one UE after the other; `width` as for `UePolicy`."""

    def __init__(self, *args: Any, width: int = 64, **kwargs: Any) -> None:
        self.width = width
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """See `DQNPolicy.make_q_net`."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return UeQNetwork(**arguments, width=self.width).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"width": self.width}
