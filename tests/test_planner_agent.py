import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import Plan, decode_observation, evaluate
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.registry import PLANNERS

SCENARIO = {"dnns": ["alexnet", "squeezenet1_1"], "granularity": "block", "rounds": 2}
NAMES = ("local-only", "edge-only", "random", "neurosurgeon", "ionn", "dads", "iao")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("env_id", ["MJOA/ColdStart-v1", "MJOA/Streaming-v1"])
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


def test_prefetches_survive_the_way_through_the_agent(monkeypatch):
    """A planner with prefetches, seen through the Streaming environment."""

    def greedy(instance):
        depth = [ue.dnn.n_layers for ue in instance.ues]
        share = np.full(len(depth), 1.0 / len(depth))
        return Plan([np.zeros(n) for n in depth], share, share, [np.ones(n) for n in depth])

    monkeypatch.setitem(PLANNERS, "greedy", greedy)
    agent = PlannerAgent("greedy", SCENARIO)
    for env_id in ("MJOA/ColdStart-v1", "MJOA/Streaming-v1"):
        env = gym.make(env_id, scenario=SCENARIO | {"departure_probability": 0.0})
        action, _ = agent.predict(env.reset(seed=0)[0])
        observation, reward, *_ = env.step(action)
        assert reward == 0.0
        assert "resident" not in observation or observation["resident"].any(axis=1).all()


def test_batches():
    envs = gym.make_vec("MJOA/Streaming-v1", 3, scenario=SCENARIO, n_ues=2)
    agent = PlannerAgent("ionn", SCENARIO)
    observation, _ = envs.reset(seed=0)
    actions, _ = agent.predict(observation)
    assert actions in envs.action_space
    _, rewards, *_ = envs.step(actions)
    assert np.all(rewards >= 0)


def test_unknown_planners_are_named():
    with pytest.raises(ValueError, match="planner='orcale'"):
        PlannerAgent("orcale")
