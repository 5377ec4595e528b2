import gymnasium as gym
import numpy as np
import pytest

from agents.far_sighted import (
    Constants,
    FarSightedAgent,
    action_of,
    expected_rounds,
    prospect_of,
)
from agents.residency import play_round, search
from mjoa_gym import Scenario, decode_observation
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.planners import plan_with
from mjoa_gym.world import memory

SCENARIO = Scenario(
    dnns=("alexnet", "resnet18"),
    granularity="block",
    n_ues=3,
    rounds=5,
    bandwidth_hz=20e6,
    server_memory_bytes=60e6,
    departure_probability=0.0,
)


def streaming(**changes):
    scenario = SCENARIO.with_changes(**changes)
    return gym.make("MJOA/Streaming-v0", scenario=scenario, disable_env_checker=True), scenario


def rounds_of(agent, env, seed):
    """Observation, action, info and the observation after it, for every round of an episode."""
    observation, _ = env.reset(seed=seed)
    over = False
    while not over:
        action, _ = agent.predict(observation, deterministic=True)
        after, _, _, over, info = env.step(action)
        yield observation, action, info, after
        observation = after


def test_actions_are_plans():
    env, scenario = streaming()
    for _, action, info, _ in rounds_of(FarSightedAgent(scenario), env, 3):
        assert action in env.action_space
        assert np.all(np.isfinite(info["latency_s"]))
        assert not np.any(action["placements"] & action["prefetch"])


def test_batches():
    envs = gym.make_vec("MJOA/Streaming-v0", 3, scenario=SCENARIO)
    agent = FarSightedAgent(SCENARIO)
    observation, _ = envs.reset(seed=0)
    for _ in range(2):
        actions, state = agent.predict(observation)
        assert actions in envs.action_space
        assert state is None
        alone, _ = agent.predict({key: values[1] for key, values in observation.items()})
        for key, values in alone.items():
            np.testing.assert_array_equal(values, actions[key][1])
        observation, *_ = envs.step(actions)


def test_the_search_replays_what_the_environment_does():
    """With everybody staying, residency after a round is exactly what the search computes."""
    env, scenario = streaming()
    dropped = 0.0
    for seed in range(3):
        for observation, _, info, after in rounds_of(FarSightedAgent(scenario), env, seed):
            if observation["round"][0] == scenario.rounds - 1:
                continue  # nothing is searched
            plan = plan_with("mjoa-mu-prefetch", decode_observation(observation, scenario))
            ahead = expected_rounds(scenario, int(observation["round"][0]))
            constants = Constants()
            ours = prospect_of(
                scenario, observation, plan, constants.patience * ahead, constants.share
            )
            before, best = search(ours)
            assert best <= before
            seconds, round_s = play_round(ours)
            np.testing.assert_array_equal(seconds, info["latency_s"])
            assert round_s == info["round_s"]
            state = ours.state
            lost, _ = memory.evict(
                state.resident[0], state.idle[0], state.population.dnn[0], scenario.tables,
                scenario.server_memory_bytes,
            )  # fmt: skip
            np.testing.assert_array_equal(state.resident[0], after["resident"])
            np.testing.assert_array_equal(state.idle[0], after["idle_rounds"])
            assert lost == info["dropped_bytes"]
            dropped += lost
    assert dropped > 0


def test_a_patient_search_does_not_forget_the_present():
    """What it gives up in this round is no more than what it expects to gain."""
    env, scenario = streaming()
    observation, _ = env.reset(seed=1)
    plan = plan_with("mjoa-mu-prefetch", decode_observation(observation, scenario))
    took = []
    for ahead in (1e-9, 100.0):
        prospect = prospect_of(scenario, observation, plan, ahead, 1.0)
        search(prospect)
        took.append(play_round(prospect)[0].sum())
        assert action_of(prospect) in env.action_space
    assert took[0] <= took[1]


def test_the_last_round_is_planned_as_if_it_were_the_last():
    env, scenario = streaming(rounds=1)
    agents = (FarSightedAgent(scenario), PlannerAgent("mjoa-mu-prefetch", scenario))
    observation, _ = env.reset(seed=0)
    actions = [agent.predict(observation)[0] for agent in agents]
    for key, values in actions[0].items():
        np.testing.assert_array_equal(values, actions[1][key])


def test_it_is_mjoa_mu_where_nothing_persists():
    env = gym.make("MJOA/ColdStart-v0", scenario=SCENARIO)
    observation, _ = env.reset(seed=0)
    action, _ = FarSightedAgent(SCENARIO).predict(observation)
    expected, _ = PlannerAgent("mjoa-mu", SCENARIO).predict(observation)
    assert action in env.action_space
    for key, values in expected.items():
        np.testing.assert_array_equal(values, action[key])


def test_looking_ahead_pays():
    env, scenario = streaming(rounds=8)
    agents = (FarSightedAgent(scenario), PlannerAgent("mjoa-mu-prefetch", scenario))
    took = [
        np.mean([r[2]["latency_s"] for seed in range(6) for r in rounds_of(agent, env, seed)])
        for agent in agents
    ]
    assert took[0] < took[1]


def test_expected_rounds():
    scenario = SCENARIO.with_changes(rounds=4, departure_probability=0.5)
    assert [expected_rounds(scenario, over) for over in range(4)] == pytest.approx(
        [0.875, 0.75, 0.5, 0.0]
    )
