"""Agents as planners: an instance's own setting and state, kinds of actions, the testbed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from mjoa_gym import DNN, UE, Instance, Plan, evaluate
from mjoa_gym.evaluation import agent_planner
from mjoa_gym.evaluation.agent_planner import AgentPlanner, roles_of
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.model.instance import Horizon
from mjoa_gym.planners import plan_with

ROOT = Path(__file__).resolve().parent.parent
TRAINED = str(ROOT / "results" / "agents" / "ppo-streaming-seed0")
NETWORKS = ("alexnet", "nin")


def instance_of(names=NETWORKS, share=True, seed=0, resident=True, **changes):
    generator = np.random.default_rng(seed)
    ues = []
    for k, name in enumerate(names):
        dnn = DNN.load(name, "block")
        here = generator.random(dnn.n_layers) if resident else None
        seconds = dnn.flops / (2e9 + k * 1e8) + 1e-4
        ues.append(
            UE(
                dnn, seconds, seconds / 15, resident=here, weight=1.0 + k, uplink_bps=1e8 + k,
                downlink_bps=2e8, message_s=1e-3 + 1e-4 * k,
            )
        )  # fmt: skip
    idle = tuple(generator.integers(0, 5, ue.dnn.n_layers) for ue in ues)
    horizon = Horizon(
        9, 0.5, 1e8, share_parameters=share, retain=True, idle_rounds=idle, **changes
    )  # fmt: skip
    return Instance(ues, horizon=horizon)


class OneByOne:
    """Decides for one UE after the other: the first entry for the first UE, then the last."""

    action_view = "discrete"

    def __init__(self):
        self.asked = 0

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        self.asked += 1
        return np.int64(0), state


class AllAtTheEdge:
    """An agent that decides for all at once, and notes what it has seen."""

    action_view = "plan"
    observation = "dict"

    def __init__(self, scenario=None):
        self.scenario = scenario
        self.seen = []

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        self.seen.append(observation)
        n = len(observation["dnn"])
        width = observation["resident"].shape[1] if "resident" in observation else 0
        action = {"placements": np.ones((n, width), np.int8)}
        action |= {name: np.full(n, 1 / n) for name in ("bandwidth_share", "compute_share")}
        action |= {name: np.zeros((n, width), np.int8) for name in ("prefetch", "retain")}
        return action, state


def entered(instance, source):
    """The instance that an environment poses which has been put into an instance's state."""
    roles, _, core = AgentPlanner(source_of(source)).prepared(instance)
    agent_planner._enter(core, roles, instance)
    return core.batch.instance(0)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("names", [NETWORKS, ("nin", "nin", "alexnet")])
def test_the_environment_is_in_the_state_of_the_instance(names, share):
    given = instance_of(names, share)
    if share:  # UEs with the same network have the same at the server
        first = {ue.dnn.name: ue.resident for ue in reversed(given.ues)}
        same = [
            UE(
                ue.dnn, ue.ue_seconds, ue.edge_seconds, resident=first[ue.dnn.name],
                weight=ue.weight, uplink_bps=ue.uplink_bps, downlink_bps=ue.downlink_bps,
                message_s=ue.message_s,
            )
            for ue in given.ues
        ]  # fmt: skip
        given = Instance(same, horizon=given.horizon)
    posed = entered(given, AllAtTheEdge())
    for ours, theirs in zip(given.ues, posed.ues, strict=True):
        for name in ("ue_seconds", "resident"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
        assert ours.dnn.name == theirs.dnn.name
        for name in ("weight", "uplink_bps", "downlink_bps", "message_s"):
            assert getattr(ours, name) == getattr(theirs, name), name
    horizon, found = given.horizon, posed.horizon
    for name in ("rounds_left", "period_s", "server_memory_bytes", "share_parameters", "retain"):
        assert getattr(horizon, name) == getattr(found, name), name
    shares = np.full(given.n_ues, 1 / given.n_ues)
    plan = Plan([np.ones(ue.dnn.n_layers) for ue in given.ues], shares, shares)
    if names == NETWORKS:  # else twins differ at the edge
        assert np.allclose(evaluate(given, plan), evaluate(posed, plan), rtol=1e-12)


def test_an_agent_for_plans_is_asked_once():
    agent = AllAtTheEdge()
    given = instance_of()
    plan = AgentPlanner(source_of(agent))(given)
    assert all(sides.all() for sides in plan.placements)
    assert plan.bandwidth_share.tolist() == [0.5, 0.5]
    assert len(agent.seen) == 1
    assert np.allclose(agent.seen[0]["weight"], [1.0, 2.0])


def test_an_agent_that_decides_one_by_one_is_asked_for_every_ue():
    agent = OneByOne()
    plan = AgentPlanner(source_of(agent))(instance_of())
    assert agent.asked == 2
    plan.check_fits(instance_of())
    assert not any(sides.any() for sides in plan.placements)


def test_the_same_ues_are_prepared_for_once():
    made = []

    def factory(scenario=None):
        made.append(scenario)
        return AllAtTheEdge(scenario)

    planner = AgentPlanner(source_of(factory))
    for seed in range(3):
        planner(instance_of(seed=seed))  # what is resident differs
    planner(instance_of(("nin",)))
    planner(instance_of())
    assert [scenario.n_ues for scenario in made] == [2, 1]


def test_a_planner_among_the_agents_sees_the_instance_itself():
    given = instance_of()
    plan = AgentPlanner(source_of("edge-only"))(given)
    assert np.array_equal(plan.placements[0], plan_with("edge-only", given).placements[0])


def test_ues_with_snrs_are_refused():
    dnn = DNN.load("nin", "block")
    ue = UE(dnn, [0.1] * dnn.n_layers, [0.01] * dnn.n_layers, 10.0, 10.0)
    with pytest.raises(ValueError, match="UE 0 has SNRs: an agent plans for UEs with given rates"):
        roles_of(Instance([ue], bandwidth_hz=1e6))


def test_a_trained_agent_plans():
    pytest.importorskip("stable_baselines3")
    planner = AgentPlanner(source_of(TRAINED))
    given = instance_of(resident=False)
    plan = planner(given)
    local = sum(ue.weight * ue.local_s for ue in given.ues)
    weights = [ue.weight for ue in given.ues]
    assert weights @ evaluate(given, plan) < 0.95 * local
    with pytest.raises(
        ValueError, match="was trained in a scenario with these properties: shared parameters"
    ):
        planner(instance_of(share=False))


@pytest.mark.slow
def test_a_controller_asks_a_trained_agent():
    """By the name that `evaluate` knows it by; without sharing it is refused at once."""
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("msgspec")
    from mjoa_gym.testbed.planning import PlannerProcess, PlanningError

    given = instance_of(resident=False)

    async def main():
        with pytest.raises(ValueError, match=r"shared parameters.*--share"):
            async with PlannerProcess(TRAINED):
                pass
        async with PlannerProcess(TRAINED, share=True) as process:
            plan, refused = None, []
            while plan is None:  # it gets ready for new UEs beside what goes on
                try:
                    plan = await process.plan(given, 2.0)
                except PlanningError as error:
                    refused.append(str(error))
                    await asyncio.sleep(0.1)
        assert any(sides.any() for sides in plan.placements)
        assert all("the agent gets ready for these UEs first" in text for text in refused)

    asyncio.run(asyncio.wait_for(main(), 300))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("results/agents/none", "there is no such folder"),
        ("ppo:none.zip", "there is no file none.zip"),
        ("tests.test_agent_planner:NETWORKS", "tuple cannot be called"),
    ],
)
def test_what_is_no_agent_is_said(name, message):
    pytest.importorskip("torch")
    pytest.importorskip("msgspec")
    from mjoa_gym.testbed.planning import _planner

    with pytest.raises(ValueError, match=message):
        _planner(name, False)
