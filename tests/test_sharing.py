"""What the server keeps: shared by content, and as plans want it, against a slow reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import mjoa_gym
from mjoa_gym import DNN, Instance, Plan, Scenario, decode_observation
from mjoa_gym.envs.actions import ACTION_VIEWS
from mjoa_gym.model.instance import timelines
from mjoa_gym.planners import plan_with


def toy(name: str, sizes: list[float], fingerprints: list[str]) -> DNN:
    """A chain with parameters of so many bytes."""
    n = len(sizes)
    predecessors = [[layer - 1] for layer in range(n)]
    return DNN(
        name, [1e9] * n, sizes, [1e4] * n, predecessors, 1e5, fingerprints=fingerprints
    )  # fmt: skip


MB = 1e6
TRUNK = ["stem", "body"]
VARIANTS = (
    toy("cats", [20 * MB, 30 * MB, 10 * MB], [*TRUNK, "cats"]),
    toy("dogs", [20 * MB, 30 * MB, 15 * MB], [*TRUNK, "dogs"]),
    toy("birds", [20 * MB, 31 * MB, 10 * MB], [*TRUNK, "cats"]),  # another size is another content
)
TWICE = toy("twice", [20 * MB, 30 * MB, 20 * MB], ["stem", "body", "stem"])  # a layer used again
SETTINGS: dict[str, dict[str, Any]] = {
    "twice": {"dnns": (TWICE, VARIANTS[1]), "server_memory_bytes": 60 * MB, "n_ues": 3,
              "parameter_bits": 32, "bandwidth_hz": 100e6},
    "variants": {"dnns": VARIANTS, "server_memory_bytes": 90 * MB, "departure_probability": 0.2,
                 "parameter_bits": 32, "bandwidth_hz": 100e6},
    "catalogue": {"dnns": ("alexnet", "resnet18", "googlenet"), "departure_probability": 0.1},
    "half": {"dnns": ("alexnet", "mobilenet_v2"), "parameter_bits": 16, "n_ues": 3,
             "server_memory_bytes": 60 * MB},
}  # fmt: skip


class ReferenceMemory:
    """The server's memory, as `docs/model.md` describes it: a dictionary by content."""

    def __init__(self, limit_bytes: float, shared: bool) -> None:
        self.limit_bytes, self.shared = limit_bytes, shared
        self.held: dict[Any, float] = {}  # fraction by content
        self.idle: dict[Any, int] = {}
        self.bytes: dict[Any, float] = {}
        self.dropped_bytes = 0.0

    def key(self, i: int, dnn: DNN, layer: int) -> Any:
        if not self.shared:
            return (i, layer)
        return (dnn.fingerprints[layer], dnn.parameter_bytes[layer])

    def end_round(
        self, instance: Instance, plan: Plan, round_s: float, left: Any, dnns: Any
    ) -> None:
        """Take in what has been sent, count ages, let UEs go, and drop what does not fit.

        `dnns` are the scenario's; among equals the order of rows and layers decides.
        """
        start, used, marked, order = dict(self.held), set(), set(), {}
        for d, dnn in enumerate(dnns):
            for layer in range(dnn.n_layers):
                order.setdefault(self.key(-1, dnn, layer), (d, layer))
        for i, (ue, timeline) in enumerate(
            zip(instance.ues, timelines(instance, plan, round_s), strict=True)
        ):
            for layer in range(ue.dnn.n_layers):
                key = self.key(i, ue.dnn, layer)
                self.bytes[key] = float(ue.dnn.parameter_bytes[layer])
                order.setdefault(key, (i, layer))
                before = start.get(key, 0.0)
                after = float(timeline.resident[layer]) if self.bytes[key] else before
                if plan.placements[i][layer] or after > before:
                    used.add(key)
                if after > self.held.get(key, 0.0):
                    self.held[key] = after
                if plan.retain is not None and plan.retain[i][layer]:
                    marked.add(key)
        for key in self.held:
            self.idle[key] = 0 if key in used else self.idle.get(key, 0) + 1
        for i in np.flatnonzero(left):
            for key in [k for k in self.held if not self.shared and k[0] == i]:
                del self.held[key]
        self.dropped_bytes = 0.0
        while sum(self.held[k] * self.bytes[k] for k in self.held) > self.limit_bytes:
            out = max(
                (k for k in self.held if self.held[k] * self.bytes[k] > 0),
                key=lambda k: (
                    k not in marked, self.idle[k], self.held[k] * self.bytes[k], order[k],
                ),
            )  # fmt: skip
            self.dropped_bytes += self.held.pop(out) * self.bytes[out]


def random_plan(instance: Instance, rng: np.random.Generator, retain: bool) -> Plan:
    """Placements, prefetches and marks, half of them at random."""
    marks = [
        [(rng.random(ue.dnn.n_layers) < rng.random()).astype(int) for ue in instance.ues]
        for _ in range(3)
    ]
    shares = rng.dirichlet(np.ones(instance.n_ues), 2)
    return Plan(marks[0], *shares, marks[1], marks[2] if retain else None)


def played(scenario: Scenario, seed: int, rounds: int = 12) -> Iterator[tuple[Any, ...]]:
    """Rounds of random plans: the instance, the plan, what follows, and the next observation."""
    env = gym.make("MJOA/Streaming-v1", scenario=scenario, rounds=rounds)
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    for _ in range(rounds):
        instance = decode_observation(observation, scenario)
        plan = random_plan(instance, rng, scenario.retain)
        action = env.unwrapped.view.encode(plan, instance)
        observation, reward, _, _, info = env.step(action)
        yield instance, plan, info, reward, observation


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_memory_is_that_of_the_reference(setting, shared, retain):
    scenario = Scenario(**SETTINGS[setting], share_parameters=shared, retain=retain)
    dropped = 0.0
    for seed in range(3):
        reference = ReferenceMemory(scenario.server_memory_bytes, shared)
        for instance, plan, info, _, observation in played(scenario, seed):
            reference.end_round(instance, plan, info["round_s"], info["left"], scenario.profiles)
            following = decode_observation(observation, scenario)
            for i, ue in enumerate(following.ues):
                keys = [reference.key(i, ue.dnn, layer) for layer in range(ue.dnn.n_layers)]
                held = [reference.held.get(key, 0.0) for key in keys]
                has = ue.dnn.parameter_bytes > 0
                np.testing.assert_allclose(ue.resident[has], np.array(held)[has], atol=1e-12)
                ages = np.array(
                    [reference.idle.get(k, 0) if k in reference.held else 0 for k in keys]
                )
                shown = following.horizon.idle_rounds[i]
                np.testing.assert_array_equal(shown[has], ages[has])
            total = sum(reference.held[k] * reference.bytes[k] for k in reference.held)
            assert info["resident_bytes"] == pytest.approx(total, rel=1e-9, abs=1.0)
            assert info["dropped_bytes"] == pytest.approx(
                reference.dropped_bytes, rel=1e-9, abs=1.0
            )
            dropped += info["dropped_bytes"]
    assert dropped > 0


def test_variants_share_their_trunk_and_nothing_else():
    networks, layers = Scenario(dnns=VARIANTS).tables.owner
    assert networks.tolist() == [[0, 0, 0], [0, 0, 1], [0, 2, 0]]
    assert layers.tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_nothing_is_uploaded_twice_that_was_there():
    scenario = Scenario(**SETTINGS["variants"], share_parameters=True)
    for instance, plan, info, _, _ in played(scenario, 1):
        for ue, timeline in zip(
            instance.ues, timelines(instance, plan, info["round_s"]), strict=True
        ):
            sent = {i.layer for i in timeline.intervals if i.what in ("parameters", "prefetch")}
            assert not any(ue.resident[layer] == 1.0 for layer in sent)


@pytest.mark.parametrize("setting", [{"n_ues": 1}, {"n_ues": 4}])
def test_sharing_changes_nothing_for_ues_that_have_nothing_in_common(setting):
    """Without departures: else networks of UEs that have left stay."""
    alone = {"departure_probability": 0.0, "server_memory_bytes": 100 * MB, **setting}
    networks = tuple(DNN.load(n) for n in ("alexnet", "vgg16", "resnet18", "googlenet"))
    found = []
    for shared in (False, True):
        scenario = Scenario(dnns=networks, share_parameters=shared, **alone)
        rounds = list(played_with_different_networks(scenario))
        found.append(rounds)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def played_with_different_networks(scenario: Scenario) -> Iterator[Any]:
    """Latencies and what is resident, where UE i runs network i."""
    env = gym.make("MJOA/Streaming-v1", scenario=scenario, rounds=10)
    env.reset(seed=4)
    people = env.unwrapped.core.batch.state.population
    people.dnn[0] = np.arange(scenario.n_ues)
    rng = np.random.default_rng(4)
    for _ in range(10):
        instance = env.unwrapped.core.batch.instance(0)
        plan = random_plan(instance, rng, False)
        *_, info = env.step(env.unwrapped.view.encode(plan, instance))
        yield info["latency_s"]
        yield np.array([info["resident_bytes"], info["dropped_bytes"]])


def test_what_a_ue_leaves_behind_serves_the_next():
    network = toy("only", [5 * MB] * 3, ["a", "b", "c"])
    common = {"n_ues": 2, "departure_probability": 1.0, "server_memory_bytes": 100 * MB}
    for shared in (False, True):
        scenario = Scenario(dnns=[network], share_parameters=shared, period_s=60.0, **common)
        *_, observation = next(iter(played_everything(scenario)))
        assert (observation["resident"] == float(shared)).all()


def played_everything(scenario: Scenario) -> Iterator[tuple[Any, ...]]:
    """Rounds in which everything is uploaded."""
    env = gym.make("MJOA/Streaming-v1", scenario=scenario)
    observation, _ = env.reset(seed=0)
    while True:
        instance = decode_observation(observation, scenario)
        everything = [np.ones(ue.dnn.n_layers) for ue in instance.ues]
        even = np.full(instance.n_ues, 1 / instance.n_ues)
        plan = Plan(everything, even, even)
        observation, *_, info = env.step(env.unwrapped.view.encode(plan, instance))
        yield info, observation


@pytest.mark.parametrize("shared", [False, True])
def test_marking_nothing_or_everything_is_lru(shared):
    """Without departures: else nobody marks what those who have left leave behind."""
    setting = SETTINGS["catalogue"] | {"departure_probability": 0.0}
    scenario = Scenario(**setting, share_parameters=shared, retain=True)
    found = []
    for mark in (None, 0, 1):
        env = gym.make("MJOA/Streaming-v1", scenario=scenario.with_changes(retain=mark is not None))
        env.reset(seed=2)
        env.action_space.seed(2)
        rows = []
        for _ in range(15):
            action = env.action_space.sample()
            if mark is not None:
                action["retain"][:] = mark
            rng = np.random.default_rng(len(rows))
            for key in ("placements", "prefetch"):
                action[key] = (rng.random(action[key].shape) < 0.5).astype(np.int8)
            for key in ("bandwidth_share", "compute_share"):
                action[key] = rng.dirichlet(np.ones(5))
            *_, info = env.step(action)
            rows.append([*info["latency_s"], info["resident_bytes"], info["dropped_bytes"]])
        found.append(rows)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("action", tuple(ACTION_VIEWS))
def test_scalar_and_vector_agree(action):
    scenario = Scenario(share_parameters=True, retain=True, n_ues=3, parameter_bits=16)
    kinds = {"action": action, "scenario": scenario, "rounds": 5}
    envs = gym.make_vec("MJOA/Streaming-v1", 3, vectorization_mode="vector_entry_point", **kinds)
    single = [gym.make("MJOA/Streaming-v1", **kinds) for _ in range(3)]
    shown, _ = envs.reset(seed=7)
    own = [env.reset(seed=7 + e)[0] for e, env in enumerate(single)]
    envs.action_space.seed(7)
    for _ in range(8):
        for e in range(3):
            assert_equal(row(shown, e), own[e])
        if single[0].unwrapped.core.batch.over()[0]:
            break
        actions = envs.action_space.sample()
        shown, rewards, *_ = envs.step(actions)
        steps = [env.step(row(actions, e)) for e, env in enumerate(single)]
        own = [step[0] for step in steps]
        np.testing.assert_array_equal(rewards, [step[1] for step in steps])


def row(batch: Any, e: int) -> Any:
    return {k: v[e] for k, v in batch.items()} if isinstance(batch, dict) else batch[e]


def assert_equal(one: Any, other: Any) -> None:
    for key in one if isinstance(one, dict) else [...]:
        np.testing.assert_array_equal(one[key], other[key])


def test_a_flat_observation_says_how_much_of_each_network_is_there():
    scenario = Scenario(**SETTINGS["variants"], share_parameters=True)
    both = [
        gym.make("MJOA/Streaming-v1", scenario=scenario, action="plan", observation=kind)
        for kind in ("dict", "flat")
    ]
    for env in both:
        env.reset(seed=0)
        env.action_space.seed(0)
    for _ in range(6):
        shown, flat = (env.step(env.action_space.sample())[0] for env in both)
        sizes = scenario.tables.parameter_bytes
        parts = (shown["memory"] * sizes).sum(axis=1) / sizes.sum(axis=1)
        np.testing.assert_allclose(flat[-3:], parts, rtol=1e-6)
        for ue, own in zip(decode_observation(flat, scenario).ues, shown["resident"], strict=True):
            np.testing.assert_allclose(ue.resident, own[: ue.dnn.n_layers], rtol=1e-6)


@pytest.mark.parametrize("view", ["box", "multidiscrete", "discrete"])
def test_learned_views_say_what_is_retained(view):
    scenario = Scenario(retain=True, n_ues=2)
    env = gym.make("MJOA/Streaming-v1", action=view, scenario=scenario)
    env.reset(seed=1)
    instance = env.unwrapped.core.batch.instance(0)
    own = env.unwrapped.view
    everything = [np.ones(ue.dnn.n_layers, np.int8) for ue in instance.ues]
    nothing = [np.zeros(ue.dnn.n_layers, np.int8) for ue in instance.ues]
    plan = Plan(nothing, [0.5, 0.5], [0.5, 0.5], nothing, [everything[0], nothing[1]])
    action = own.encode(plan, instance)
    state, which = env.unwrapped.core.batch.state, np.ones(1, bool)
    for each in action if view == "discrete" else [action]:
        decision, _ = own.decode(np.asarray(each)[None], state, which)
    again = mjoa_gym.world.rounds.plan_of(decision, 0, instance)
    assert again.retain[0].all()
    assert not again.retain[1].any()


@pytest.mark.parametrize("name", ["mjoa-mu-prefetch", "far-sighted"])
def test_planners_retain_only_where_it_is_heeded(name):
    for retain in (False, True):
        scenario = Scenario(**SETTINGS["catalogue"], retain=retain, share_parameters=True)
        *_, (_, _, _, _, observation) = played(scenario, 3, rounds=3)
        plan = plan_with(name, decode_observation(observation, scenario))
        assert (plan.retain is not None) == retain
