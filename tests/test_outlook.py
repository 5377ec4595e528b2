"""What learned agents look at is what it says it is, and depends on the observation alone."""

import gymnasium as gym
import numpy as np
import pytest

from agents.outlook import PER_ENTRY, PER_UE, Outlook
from mjoa_gym import Plan, Scenario, decode_observation, evaluate
from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.actions import PlanView, action_view
from mjoa_gym.planners.menu import menu_of

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
every_view = pytest.mark.parametrize("action", ["multidiscrete", "box", "discrete"])


def played(env_id, action, steps=7, n_envs=4, **arguments):
    """A batch of observations after some random steps, and the view."""
    envs = gym.make_vec(
        env_id, n_envs, vectorization_mode="vector_entry_point", action=action,
        observation="dict", **arguments,
    )  # fmt: skip
    observation, _ = envs.reset(seed=3)
    envs.action_space.seed(3)
    for _ in range(steps):
        observation, *_ = envs.step(envs.action_space.sample())
    return observation, envs.unwrapped.core.view


def seconds_of(numbers):
    """From the logarithmic scale back to a ratio."""
    return np.exp(10.0 * (np.asarray(numbers, np.float64) - 0.7)) - np.exp(-7.0)


@every_env
@every_view
def test_outlook_is_in_its_space(env_id, action):
    observation, view = played(env_id, action)
    outlook = Outlook(view)
    seen = outlook(observation)
    assert all(each in outlook.space for each in seen)
    assert seen.shape[2] == outlook.layout.columns


@every_env
def test_seconds_of_entries_are_the_simulators(env_id):
    observation, view = played(env_id, "multidiscrete")
    seen = Outlook(view)(observation)
    menu, n = menu_of(view.scenario, view.persists), view.scenario.n_ues
    for e in range(len(seen)):
        instance = decode_observation({k: v[e] for k, v in observation.items()}, view.scenario)
        for entry in (0, 3, 6):
            rows = [menu.placements[d, entry, : ue.dnn.n_layers]
                    for d, ue in zip(observation["dnn"][e], instance.ues, strict=True)]  # fmt: skip
            latency_s = evaluate(instance, Plan(rows, np.full(n, 1 / n), np.full(n, 1 / n)))
            expected = latency_s / instance.local_s
            numbers = seen[e, :, PER_UE + PER_ENTRY * entry + 1]
            inside = numbers < 1.0
            assert inside.any()
            np.testing.assert_allclose(seconds_of(numbers)[inside], expected[inside], rtol=1e-4)


def test_nothing_but_the_observation_counts():
    observation, view = played("MJOA/Streaming-v1", "multidiscrete")
    fresh = Outlook(action_view("multidiscrete", view.scenario, persists=True))
    copied = {key: value.copy() for key, value in observation.items()}
    np.testing.assert_array_equal(fresh(copied), Outlook(view)(observation))


@every_view
def test_ues_may_come_in_any_order(action):
    observation, view = played("MJOA/Streaming-v1", action, steps=10)
    order = np.array([3, 0, 4, 1, 2])
    shuffled = {k: v if k in ("round", "turn") else v[:, order] for k, v in observation.items()}
    outlook = Outlook(view)
    np.testing.assert_allclose(outlook(shuffled), outlook(observation)[:, order], atol=1e-6)


def test_the_first_ue_is_the_one_whose_turn_it_is():
    observation, view = played("MJOA/Streaming-v1", "discrete", steps=8)
    assert (observation["turn"] == 3).all()
    seen = Outlook(view)(observation)
    unturned = Outlook(view)(observation | {"turn": np.zeros_like(observation["turn"])})
    np.testing.assert_array_equal(seen, np.roll(unturned, -3, axis=1))
    np.testing.assert_array_equal(seen[..., PER_UE], [[0, 0, 1, 1, 1]] * 4)


def test_threads_make_no_difference():
    observation, view = played("MJOA/Streaming-v1", "multidiscrete", n_envs=64)
    np.testing.assert_array_equal(Outlook(view, 2)(observation), Outlook(view)(observation))


def test_a_view_without_a_menu_is_refused():
    with pytest.raises(TypeError, match="PlanView"):
        Outlook(PlanView(Scenario(), persists=False))
