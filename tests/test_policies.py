"""Policies see UEs as a set, and one set of weights serves any number of them."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from agents import cards  # noqa: E402
from agents.learned_agent import POLICIES, LearnedAgent, new_policy, outlook_of  # noqa: E402
from mjoa_gym import Scenario  # noqa: E402
from mjoa_gym.planners.menu import ENTRIES  # noqa: E402
from tests.test_outlook import played  # noqa: E402

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent
ORDER = np.array([3, 0, 4, 1, 2])


def agent(algorithm, env_id="MJOA/Streaming-v1", seed=0, action=None, **changes):
    """An untrained agent."""
    torch.manual_seed(seed)
    scenario = Scenario().with_changes(**changes)
    action = action or POLICIES[algorithm][1]
    outlook = outlook_of(action, scenario, "Streaming" in env_id)
    card = {
        "action": action,
        "format": cards.FORMAT,
        "algorithm": algorithm,
        "environment": env_id,
        "persists": "Streaming" in env_id,
        "scenario": scenario.to_dict(),
        "width": 16,
    }
    return LearnedAgent(new_policy(algorithm, outlook, 16), outlook, card)


@pytest.mark.parametrize("env_id", ["MJOA/ColdStart-v1", "MJOA/Streaming-v1"])
@pytest.mark.parametrize("action", ["multidiscrete", "shares"])
def test_placements_and_bids_follow_their_ues(env_id, action):
    observation, _ = played(env_id, action, n_envs=8)
    of_all = ("round", "memory", "memory_idle")
    shuffled = {k: v if k in of_all else v[:, ORDER] for k, v in observation.items()}
    one = agent("ppo", env_id, action=action)
    straight = one.predict(observation)[0].reshape(8, 5, -1)
    np.testing.assert_array_equal(one.predict(shuffled)[0].reshape(8, 5, -1), straight[:, ORDER])


def test_values_do_not_depend_on_the_order():
    observation, _ = played("MJOA/Streaming-v1", "multidiscrete", n_envs=8)
    one = agent("ppo")
    tokens = torch.as_tensor(one.outlook(observation))
    values = one.policy.predict_values(tokens), one.policy.predict_values(tokens[:, ORDER])
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("action", ["discrete", "shares-discrete"])
def test_action_values_do_not_depend_on_the_order_of_those_who_wait(action):
    observation, _ = played("MJOA/Streaming-v1", action, steps=7, n_envs=8)
    one = agent("dqn", action=action)
    tokens = torch.as_tensor(one.outlook(observation))
    values = one.policy.q_net(tokens), one.policy.q_net(tokens[:, [0, 3, 1, 4, 2]])
    torch.testing.assert_close(*values)


def test_only_entries_that_exist_are_chosen():
    observation, core = played("MJOA/Streaming-v1", "multidiscrete", n_envs=64)
    own = agent("ppo").predict(observation, deterministic=False)[0].reshape(64, 5, -1)
    assert (own[..., :2] < core.view.sizes[observation["dnn"]][..., None]).all()


def test_entries_that_wrap_around_have_the_value_of_what_they_mean():
    mixed = {"dnns": ("alexnet", "googlenet")}
    one = agent("dqn", "MJOA/ColdStart-v1", **mixed)
    observation, core = played(
        "MJOA/ColdStart-v1", "discrete", steps=5, n_envs=64, scenario=Scenario(**mixed)
    )
    values = one.policy.q_net(torch.as_tensor(one.outlook(observation))).detach().numpy()
    by_entry = values.reshape(64, core.view.entries, -1)
    sizes = core.view.sizes[observation["dnn"][:, 0]]
    assert (sizes < core.view.entries).any()
    for own, size in zip(by_entry, sizes, strict=True):
        np.testing.assert_array_equal(own, own[np.arange(core.view.entries) % size])


@pytest.mark.parametrize(
    ("algorithm", "action"),
    [("ppo", "multidiscrete"), ("ppo", "shares"), ("dqn", "discrete"), ("dqn", "shares-discrete")],
)
def test_a_saved_agent_acts_alike_and_for_other_numbers_of_ues(algorithm, action, tmp_path):
    one = agent(algorithm, action=action)
    assert one.action_view == action
    again = LearnedAgent.load(one.save(tmp_path / "agent"))
    observation, _ = played("MJOA/Streaming-v1", one.action_view)
    np.testing.assert_array_equal(one.predict(observation)[0], again.predict(observation)[0])
    single = {key: value[0] for key, value in observation.items()}
    assert np.array_equal(again.predict(single)[0], again.predict(observation)[0][0])
    more = LearnedAgent.load(tmp_path / "agent", n_ues=12)
    crowd, _ = played("MJOA/Streaming-v1", one.action_view, n_ues=12)
    assert more.predict(crowd)[0][0] in more.outlook.view.space


def test_other_networks_than_in_training(tmp_path):
    agent("ppo", "MJOA/ColdStart-v1").save(tmp_path)
    scenario = Scenario(dnns=("alexnet", "tiny_yolov2"))
    other = LearnedAgent.load(tmp_path, scenario)
    assert other.outlook.layout.entries < ENTRIES  # of menus, too
    observation, core = played("MJOA/ColdStart-v1", "multidiscrete", scenario=scenario)
    assert all(action in core.view.space for action in other.predict(observation)[0])


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_policies_take_outlooks_only(algorithm):
    kind, view = POLICIES[algorithm]
    env = gym.make("MJOA/Streaming-v1", action=view, observation="flat")
    with pytest.raises(TypeError, match="must be that of observation='outlook'"):
        kind(env.observation_space, env.action_space, lambda _: 0.0)


def test_weights_for_other_columns_are_refused(tmp_path):
    agent("ppo").save(tmp_path)
    with pytest.raises(ValueError, match="'default' has these: shared parameters, retain, dead"):
        LearnedAgent.load(tmp_path, {"deadline_min_s": 1.0, "deadline_max_s": 2.0})
    agent("ppo", retain=False, energy_price_s_per_j=0.1).save(tmp_path)
    with pytest.raises(ValueError, match=r"an energy price; scenario .* has these: shared"):
        LearnedAgent.load(tmp_path, {"share_parameters": True})  # as many columns
    with pytest.raises(ValueError, match="A scenario with `base: default` may fit"):
        LearnedAgent.load(ROOT / "results" / "agents" / "ppo-streaming-seed0", "ideal")


def test_a_folder_without_an_agent_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"card\.yaml is missing"):
        LearnedAgent.load(tmp_path)
    agent("ppo").save(tmp_path)
    (tmp_path / "card.yaml").write_text("format: 1\n")
    with pytest.raises(ValueError, match="lacks algorithm"):
        LearnedAgent.load(tmp_path)
