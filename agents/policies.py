"""Stable-Baselines3 policies that see UEs as a set; observations are those of `Outlook`.

    PPO(UePolicy, OutlookVecEnv(make_vec_env("MJOA/Streaming-v1", 64, action="multidiscrete")))

Weights do not depend on the number of UEs: `load_state_dict` of a policy trained for 5 UEs fits one
made for 12.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from agents.network import ActionValues, ChoiceNetwork, RoundValue
from agents.outlook import PER_ENTRY, PER_UE, OutlookColumns

CHOSEN = 4
"""Columns that the `discrete` view adds to a UE's, one more where something can be retained (see
`DiscreteView.features`)."""


class ActorAndCritic(nn.Module):
    """Both networks in the shape that SB3 expects of an `mlp_extractor`."""

    def __init__(self, shape: tuple[int, ...], numbers: tuple[int, ...], width: int) -> None:
        super().__init__()
        entries = numbers[0]
        layout = OutlookColumns(shape[1] - PER_UE - entries * PER_ENTRY, entries)
        self._shape = shape
        self.actor = ChoiceNetwork(layout, numbers, width)
        self.critic = RoundValue(layout, width)
        self.latent_dim_pi = shape[0] * self.actor.logits
        self.latent_dim_vf = self.critic.width

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the critic's embedding."""
        return self.forward_actor(flat), self.forward_critic(flat)

    def forward_actor(self, flat: Tensor) -> Tensor:
        """(B, N * logits)."""
        return self.actor(flat.unflatten(1, self._shape))

    def forward_critic(self, flat: Tensor) -> Tensor:
        """(B, embedding)."""
        return self.critic(flat.unflatten(1, self._shape))


class UePolicy(ActorCriticPolicy):
    """Actor and critic for PPO on a `multidiscrete` view; `width` is that of the embeddings."""

    def __init__(self, *args: Any, width: int = 64, **kwargs: Any) -> None:
        self.width = width
        super().__init__(*args, **{**kwargs, "ortho_init": False})

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.action_space, spaces.MultiDiscrete)
        shape = self.observation_space.shape
        assert shape is not None
        numbers = self.action_space.nvec.reshape(shape[0], -1)[0]
        self.mlp_extractor = ActorAndCritic(shape, tuple(numbers.tolist()), self.width)  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()  # the actor's outputs are logits already
        optimizer: Any = self.optimizer_class
        self.optimizer = optimizer(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"width": self.width}


class UeQNetwork(QNetwork):
    """Action values on a `discrete` view."""

    def __init__(self, *args: Any, width: int = 64, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = self.observation_space.shape
        assert shape is not None
        self.width = width
        entries, retain = divmod(shape[1] - PER_UE - CHOSEN, PER_ENTRY)
        self.layout = OutlookColumns(CHOSEN + retain, entries)
        values = ActionValues(self.layout, int(self.action_space.n) // self.layout.entries, width)
        self.q_net = nn.Sequential(nn.Unflatten(1, shape), values)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"width": self.width}


class UeDQNPolicy(DQNPolicy):
    """Action values and their target for DQN on a `discrete` view; `width` as for `UePolicy`."""

    def __init__(self, *args: Any, width: int = 64, **kwargs: Any) -> None:
        self.width = width
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """See `DQNPolicy.make_q_net`."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return UeQNetwork(**arguments, width=self.width).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"width": self.width}
