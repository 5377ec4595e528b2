"""Episodes of a planner or an agent as a Minari dataset, for offline reinforcement learning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

import mjoa_gym
from mjoa_gym.envs.core import observation_of, row
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.agent_source import AgentSource
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, Decider, Setting, view_of
from mjoa_gym.evaluation.progress import bar

if TYPE_CHECKING:
    from minari import MinariDataset

PERMALINK = "https://github.com/mjoa-gym/mjoa-gym"


def export(
    source: AgentSource,
    setting: Setting,
    seeds: Sequence[int],
    dataset_id: str,
    action: str | None = None,
    observation: str = "dict",
    progress: bool | None = None,
) -> MinariDataset:
    """Play an agent, and write its episodes to Minari's folder (`MINARI_DATASETS_PATH`).

    The dataset knows its environment: `dataset.recover_environment()` makes it again, and an
    episode's seed and actions lead to the same observations and rewards.

    Args:
        source: The planner or the agent.
        setting: The setting in which it plays, with a scenario that a file can hold.
        seeds: One episode each.
        dataset_id: The dataset's name and version, like "mjoa/streaming-far-sighted-v0".
        action: The action view that is recorded; None for the agent's own. A planner's plan becomes
            the nearest action of the view, and it is that action which is carried out.
        observation: Which observation is recorded: "dict", "flat" or "outlook".
        progress: Whether to show a bar; None for wherever standard error is a terminal.

    Raises:
        ValueError: If the agent cannot act through the view, or the dataset exists already.
        ModuleNotFoundError: Without the extra `minari`.
    """
    import minari

    agent = source.agent(setting)
    own = view_of(agent)
    if action not in (None, own) and not isinstance(agent, PlannerAgent):
        raise ValueError(f"action={action!r}: {source.label} acts through {own!r}; only planners "
                         "can be recorded through another view")  # fmt: skip
    if dataset_id in minari.list_local_datasets():
        raise ValueError(f"dataset={dataset_id!r} exists already: take another name or version")
    env = gym.make(
        ENVIRONMENTS[setting.environment],
        scenario=setting.scenario.to_dict(),
        action=action or own,
        observation=observation,
    )
    with env, warnings.catch_warnings():
        shown = bar(seeds, progress, desc="episodes", unit="episode")
        buffers = [_episode(env, agent, seed, k) for k, seed in enumerate(shown)]
        warnings.filterwarnings("ignore", "`author_email`")  # Minari asks for one
        return minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=env,
            eval_env=env,
            algorithm_name=source.label,
            author="mjoa-gym",
            code_permalink=PERMALINK,
            description=f"{source.label} on {env.spec.id if env.spec else env}, seeds {seeds[0]} "
            f"to {seeds[-1]}, recorded by mjoa-gym {mjoa_gym.__version__}.",
            data_format="hdf5",
            requirements=[f"mjoa-gym=={mjoa_gym.__version__}"],
        )


def _episode(env: gym.Env[Any, Any], agent: Any, seed: int, number: int) -> Any:
    """One episode as Minari's buffer."""
    from minari.data_collector import EpisodeBuffer

    observation, _ = env.reset(seed=seed)
    player = _Player(env.unwrapped, agent)
    observations, actions, rewards, ends = [observation], [], [], []
    over = False
    while not over:
        for action in player.actions():
            observation, reward, terminated, over, _ = env.step(action)
            observations.append(observation)
            actions.append(action)
            rewards.append(float(reward))
            ends.append((terminated, over))
    terminations, truncations = map(list, zip(*ends, strict=True))
    shown = _stacked(observations), _stacked(actions)
    return EpisodeBuffer(number, seed, None, *shown, rewards, terminations, truncations)


class _Player:
    """An agent in an environment that may show and take something else than the agent does."""

    def __init__(self, env: Any, agent: Any) -> None:
        self._env, self._agent = env, agent
        self._translated = env.arguments()["action"] != view_of(agent)
        self._observer = observation_of(getattr(agent, "observation", None) or "dict", env.view)
        self._decide = Decider(agent, env.core)

    def actions(self) -> list[Any]:
        """Return the agent's next action.

        A planner that acts through a view with one step for each UE returns those of a whole round.
        """
        seen, view = self._observer.observe(self._env.core.batch.state), self._env.view
        if not self._translated:
            return [row(self._decide(seen), 0)]
        (action,) = self._agent.nearest(view, seen)
        return list(action) if view.one_by_one else [action]


def _stacked(values: list[Any]) -> Any:
    """Observations or actions one after the other: an array, or an array for each key."""
    if isinstance(values[0], dict):
        return {key: np.stack([value[key] for value in values]) for key in values[0]}
    return np.stack(values)
