"""The native view: an action is a plan, as a dictionary of padded arrays."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mjoa_gym.envs.actions.base import ActionView, checked
from mjoa_gym.model.instance import SHARE_TOLERANCE, Instance, Plan
from mjoa_gym.world.rounds import NOTHING, Decision, State, outlines_of
from mjoa_gym.world.scenario import Scenario


class Shares(gym.spaces.Box):
    """The unit simplex and all points below it: float64 (..., N), whose last axis sums to <= 1.

    Sampling is uniform over the simplex itself (Dirichlet with all ones), so a sampled action uses
    the whole resource.
    """

    def __init__(self, *shape: int, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(0.0, 1.0, shape, np.float64, seed)

    def sample(self, mask: None = None, probability: None = None) -> NDArray[np.float64]:
        """Return a point of the simplex; masks are not supported.

        Raises:
            ValueError: If a mask or probability is given.
        """
        if mask is not None or probability is not None:
            raise ValueError("Shares.sample takes neither a mask nor a probability")
        parts = self.np_random.standard_exponential(self.shape)
        return parts / parts.sum(axis=-1, keepdims=True)

    def contains(self, x: Any) -> bool:
        """Return whether `x` is an array of shares."""
        return super().contains(x) and bool(np.all(np.sum(x, axis=-1) <= 1.0 + SHARE_TOLERANCE))

    def __repr__(self) -> str:
        return f"Shares({', '.join(map(str, self.shape))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shares) and self.shape == other.shape

    __hash__ = None  # type: ignore[assignment] # as Box


@batch_space.register(Shares)
def _batch_shares(space: Shares, n: int = 1) -> Shares:
    return Shares(n, *space.shape, seed=deepcopy(space.np_random))


class PlanView(ActionView):
    """`Dict(placements, bandwidth_share, compute_share)`; streaming adds `prefetch` and `retain`.

    There is `retain` only if the scenario sets it. Entries of `placements`, `prefetch` and `retain`
    beyond a UE's last layer are ignored. Nothing else is repaired: any other invalid plan raises.
    """

    space: gym.spaces.Dict
    endless = True
    observation = "dict"

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        n_ues = scenario.n_ues
        spaces: dict[str, gym.Space[Any]] = {
            "placements": gym.spaces.MultiBinary(self.shape),
            "bandwidth_share": Shares(n_ues),
            "compute_share": Shares(n_ues),
        }
        self.marks = ("prefetch",) * persists + ("retain",) * self.retains
        spaces |= {name: gym.spaces.MultiBinary(self.shape) for name in self.marks}
        self.space = gym.spaces.Dict(spaces)

    def single(self, action: Any) -> Any:
        """See `ActionView.single`."""
        if not isinstance(action, Mapping):
            return action
        return {key: np.asarray(value)[None] for key, value in action.items()}

    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
    ) -> tuple[Decision, NDArray[np.bool_]]:
        """See `ActionView.decode`."""
        dnn = state.population.dnn
        if not isinstance(actions, Mapping) or set(actions) != set(self.space):
            keys = sorted(actions) if isinstance(actions, Mapping) else type(actions).__name__
            raise ValueError(f"action: got {keys}; it must be a dict of {sorted(self.space)}")
        tables = self.scenario.tables
        exists = np.arange(self.shape[1]) < tables.n_layers[dnn, None]
        placements = self._marks("placements", actions["placements"], exists, which)
        outlines = outlines_of(placements, dnn.ravel(), tables)
        rows = np.arange(dnn.size).reshape(dnn.shape)
        row_of = {"prefetch": np.full_like(rows, NOTHING), "retain": np.full_like(rows, NOTHING)}
        for name in self.marks:
            row_of[name] = rows + len(placements)
            marked = self._marks(name, actions[name], exists, which)
            placements = np.concatenate([placements, marked])
        decision = Decision(
            placements,
            outlines,
            rows,
            row_of["prefetch"],
            row_of["retain"],
            self._shares("bandwidth_share", actions["bandwidth_share"], which),
            self._shares("compute_share", actions["compute_share"], which),
        )
        return decision, which

    def encode(self, plan: Plan, instance: Instance | None = None) -> dict[str, NDArray[Any]]:
        """Return the action for exactly this plan, without marks that this view does not use.

        Raises:
            ValueError: If the plan has another number of UEs, or too many layers.
        """
        action: dict[str, NDArray[Any]] = {
            "placements": self._padded("placements", plan.placements),
            "bandwidth_share": plan.bandwidth_share.copy(),
            "compute_share": plan.compute_share.copy(),
        }
        for name in self.marks:
            action[name] = self._padded(name, getattr(plan, name) or ((),) * self.shape[0])
        return action

    def _marks(
        self, name: str, given: Any, exists: NDArray[np.bool_], which: NDArray[np.bool_]
    ) -> NDArray[np.int8]:
        """Return the marks as (E x N, L)."""
        marks = checked(name, given, (self.n_envs, *self.shape), "bui")
        if np.any((marks[which] != 0) & (marks[which] != 1)):
            raise ValueError(f"{name} has entries other than 0 and 1")
        used = exists & which[:, None, None]
        return np.where(used, marks, 0).astype(np.int8).reshape(-1, self.shape[1])

    def _shares(self, name: str, given: Any, which: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the shares as (E, N)."""
        given = checked(name, given, (self.n_envs, self.shape[0]), "fui")
        shares = given.astype(np.float64)  # a copy
        shares[~which] = 0.0
        for row in shares[~np.all(shares >= 0, axis=1)]:  # NaN as well
            raise ValueError(f"{name}={row}: every share must be >= 0")
        total = shares.sum(axis=1).max()
        if not total <= 1 + SHARE_TOLERANCE:
            raise ValueError(f"{name} sums to {total}: at most 1 is allowed")
        return shares

    def _padded(self, name: str, rows: Any) -> NDArray[np.int8]:
        if len(rows) != self.shape[0]:
            raise ValueError(f"{name} has {len(rows)} entries for {self.shape[0]} UEs")
        padded = np.zeros(self.shape, dtype=np.int8)
        for i, row in enumerate(rows):
            if len(row) > self.shape[1]:
                raise ValueError(f"{name}[{i}] has {len(row)} layers: at most {self.shape[1]}")
            padded[i, : len(row)] = row
        return padded
