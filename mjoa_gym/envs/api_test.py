"""Checks for environments with settings of your own: `api_test(gym.make(..., scenario=...))`."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env, data_equivalence

from mjoa_gym.envs.core import row
from mjoa_gym.envs.scalar import RoundsEnv
from mjoa_gym.envs.vector import RoundsVectorEnv
from mjoa_gym.model.instance import evaluate, evaluate_cost, evaluate_energy
from mjoa_gym.world.rounds import plan_of


def api_test(env: gym.Env[Any, Any], episodes: int = 2, seed: int = 0) -> None:
    """Check that an environment behaves as documented, with your scenario and action view.

    The test runs Gymnasium's own checks, with warnings as errors. It also checks spaces, seeds, the
    horizon, rewards against the simulator, masks, the refusal of invalid actions, the encoding and
    decoding of actions, and the vector environment against this one. It takes seconds.

    Args:
        env: One of the `MJOA/...` environments, wrapped or not.
        episodes: Number of episodes to play.
        seed: Seed for everything that is random.

    Raises:
        AssertionError: If a check fails; the message says which.
        TypeError: If the environment is not from this package.
    """
    one = env.unwrapped
    if not isinstance(one, RoundsEnv):
        raise TypeError(f"env is a {type(one).__name__}; it must be one of the MJOA environments")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            check_env(_longer(one), skip_render_check=True)
        except Warning as warning:
            raise AssertionError(str(warning)) from warning
    check_seeds(one, seed)
    for episode in range(episodes):
        check_episode(one, seed + episode)
    check_refusals(one, seed)
    check_vector(one, seed)


def _longer(env: RoundsEnv) -> RoundsEnv:
    """Return an environment with two or more rounds: Gymnasium's check refuses 1-step episodes."""
    if env.scenario.rounds > 1:
        return env
    return type(env)(**env.arguments(), rounds=2)


def roll_out(env: RoundsEnv, seed: int) -> list[Any]:
    """Return everything that an environment returns in an episode of random actions."""
    env.action_space.seed(seed)
    said: list[Any] = [env.reset(seed=seed)]
    while True:
        said.append(env.step(env.action_space.sample()))
        if said[-1][3]:
            return said


def check_seeds(env: RoundsEnv, seed: int) -> None:
    """Check that the same seed repeats an episode and another seed does not."""
    first, again, other = (roll_out(env, s) for s in (seed, seed, seed + 1))
    assert data_equivalence(first, again, exact=True), f"seed {seed} does not repeat itself"
    assert not data_equivalence(first[0][0], other[0][0], exact=True), (
        f"seeds {seed} and {seed + 1} begin alike: does the scenario leave nothing to chance?"
    )


def check_episode(env: RoundsEnv, seed: int) -> None:
    """Check spaces, rewards, infos, masks and the horizon, step by step."""
    core, view = env.core, env.view
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    kinds, rounds, truncated = _kinds(info), 0, False
    while not truncated:
        assert observation in env.observation_space, "the observation is not in its space"
        check_masks(env, info)
        instance = core.batch.instance(0)
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert not terminated, "only the horizon ends an episode"
        assert type(reward) is float, f"the reward is a {type(reward).__name__}, not a float"
        assert _kinds(info) == kinds, f"info has changed: {_kinds(info)}, after reset {kinds}"
        if not info["round_complete"]:
            assert reward == 0.0, f"reward {reward} in the middle of a round"
            continue
        rounds += 1
        decision = core.decision
        assert decision is not None
        plan = plan_of(decision, 0, instance)
        seconds = evaluate(instance, plan)
        assert np.array_equal(info["latency_s"], seconds), "latencies differ from the simulator's"
        late = seconds > [ue.deadline_s for ue in instance.ues]
        assert np.array_equal(info["missed"], late), "missed deadlines differ"
        if "energy_j" in info:
            joules = evaluate_energy(instance, plan)
            assert np.allclose(info["energy_j"], joules, rtol=1e-9), "energies differ"
        expected = 1.0 - evaluate_cost(instance, plan).sum() / instance.local_cost.sum()
        assert np.isclose(reward, expected, rtol=1e-9, atol=1e-12), f"{reward} != {expected}"
        coded = view.encode(plan, instance)
        for action in coded if view.one_by_one else [coded]:
            assert action in env.action_space, "an encoded plan is not in the action space"
    assert rounds == core.scenario.rounds, f"{rounds} rounds instead of {core.scenario.rounds}"


def check_masks(env: RoundsEnv, info: dict[str, Any]) -> None:
    """Check that the masks agree, leave something allowed, and are accepted by sampling."""
    if "action_mask" not in info:
        return
    mask = info["action_mask"]
    parts = mask if isinstance(mask, tuple) else (mask,)
    assert np.array_equal(np.concatenate(parts) == 1, env.action_masks()), "masks in info differ"
    assert all(part.any() for part in parts), "no choice is left"
    assert env.action_space.sample(mask) in env.action_space, "masked sampling leaves the space"


def _kinds(info: dict[str, Any]) -> Any:
    """Return the keys of an info, with type, shape and dtype of their values."""
    parts = {key: value if isinstance(value, tuple) else (value,) for key, value in info.items()}
    return {k: [(type(v), np.shape(v), np.asarray(v).dtype) for v in p] for k, p in parts.items()}


def check_refusals(env: RoundsEnv, seed: int) -> None:
    """Check that invalid actions are refused, and that they do not change the episode."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    twin = copy.deepcopy(env)
    good = env.action_space.sample()
    for bad in ("nonsense", None, np.zeros((3, 2, 1))):
        try:
            env.step(bad)
        except ValueError:
            continue
        raise AssertionError(f"the action {bad!r} was not refused")
    assert data_equivalence(env.step(good), twin.step(good), exact=True), (
        "a refused action has changed the environment"
    )


def check_vector(env: RoundsEnv, seed: int, num_envs: int = 3) -> None:
    """Check that the vector environment returns the same as single environments."""
    arguments = env.arguments()
    make = next(c for c in RoundsVectorEnv.__subclasses__() if c.persists == env.persists)
    many = make(num_envs=num_envs, **arguments)
    singles = [type(env)(**arguments) for _ in range(num_envs)]
    many.action_space.seed(seed)
    together, _ = many.reset(seed=seed)
    alone = [single.reset(seed=seed + e)[0] for e, single in enumerate(singles)]
    for _ in range(env.scenario.rounds):
        for e, observation in enumerate(alone):
            assert data_equivalence(row(together, e), observation, exact=True), (
                f"observation {e} of the vector environment differs"
            )
        actions = many.action_space.sample()
        together, rewards, _, _, _ = many.step(actions)
        steps = [single.step(row(actions, e)) for e, single in enumerate(singles)]
        alone = [step[0] for step in steps]
        assert np.array_equal(rewards, [step[1] for step in steps]), "rewards of the vector differ"
