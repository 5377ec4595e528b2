import gymnasium as gym
import numpy as np
import pytest

from agents.planner_agent import PlannerAgent
from mjoa_gym import decode_observation, evaluate
from mjoa_gym.planners import plan_with, planner_names

SCENARIO = {"dnns": ["alexnet", "squeezenet1_1"], "granularity": "block", "rounds": 2}
FAST = tuple(name for name in planner_names() if "optimal" not in name and "exact" not in name)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("env_id", ["MJOA/ColdStart-v0", "MJOA/Streaming-v0"])
def test_an_agent_does_what_its_planner_says(name, env_id):
    env = gym.make(env_id, scenario=SCENARIO, n_ues=3)
    agent = PlannerAgent(name, SCENARIO)
    observation, _ = env.reset(seed=0)
    for _ in range(2):
        instance = decode_observation(observation, env.unwrapped.scenario)
        action, state = agent.predict(observation, deterministic=True)
        assert action in env.action_space
        assert state is None
        observation, *_, info = env.step(action)
        np.testing.assert_array_equal(
            info["latency_s"], evaluate(instance, plan_with(name, instance))
        )


def test_batches():
    envs = gym.make_vec("MJOA/Streaming-v0", 3, scenario=SCENARIO, n_ues=2)
    agent = PlannerAgent(planner_names()[-1], SCENARIO)
    observation, _ = envs.reset(seed=0)
    actions, _ = agent.predict(observation)
    assert actions in envs.action_space
    _, rewards, *_ = envs.step(actions)
    assert np.all(rewards >= 0)


def test_unknown_planners_are_named():
    with pytest.raises(ValueError, match="planner_name='oracle'"):
        PlannerAgent("oracle")
