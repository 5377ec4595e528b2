"""Scenes of UEs with catalogue networks, as a streaming environment would have them drawn."""

from functools import lru_cache

import numpy as np

from mjoa_gym import DNN, UE, Instance, Plan, timelines
from mjoa_gym.rendering import Memory, Scene

NETWORKS = ("alexnet", "vgg16", "resnet18", "densenet121", "bert_base", "mobilenet_v2")
LIMIT_BYTES = 100e6


def random_instance(rng, n_ues, resident=True):
    """UEs with random networks, the first layers of which may be on the server."""
    ues = []
    for name in rng.choice(NETWORKS, n_ues):
        dnn = DNN.load(str(name))
        seconds = dnn.flops / rng.uniform(2e9, 2e10)
        there = rng.uniform(0, 1, dnn.n_layers).round() if resident else None
        weight = rng.choice([1.0, 2.0])
        ues.append(UE(dnn, seconds, seconds / 50, 1e3, 1e3, resident=there, weight=weight))
    return Instance(ues, 100e6)


def random_plan(rng, instance):
    """Random sides and prefetches, equal shares."""
    sizes = [ue.dnn.n_layers for ue in instance.ues]
    shares = np.full(instance.n_ues, 1 / instance.n_ues)
    sides, marks = ([rng.integers(0, 2, n) for n in sizes] for _ in range(2))
    return Plan(sides, shares, shares, prefetch=marks)


def random_scene(seed, n_ues=5, streaming=True, drop=True, leave=True, **changes):
    """A round after which some layers are dropped and some UEs leave."""
    rng = np.random.default_rng(seed)
    instance = random_instance(rng, n_ues, resident=streaming)
    plan = random_plan(rng, instance)
    round_s = float(max(t.latency for t in timelines(instance, plan))) * 1.2 if streaming else None
    memory = None
    if streaming:
        left = (rng.uniform(size=n_ues) < 0.3) & leave
        kept = [np.asarray(t.resident).copy() for t in timelines(instance, plan, round_s)]
        for i, row in enumerate(kept):
            row[(rng.uniform(size=len(row)) < 0.3) & drop] = 0.0
            row[:] = 0.0 if left[i] else row
        memory = Memory(LIMIT_BYTES, kept, left)
    settings = {"name": "Streaming", "round": 3, "rounds": 20, "reward": 0.25, "round_s": round_s}
    return Scene(instance, plan, memory=memory, **settings | changes)


@lru_cache
def scenes_of(n_ues):
    """Scenes of so many UEs, simulated once."""
    return first_scene(0, n_ues), random_scene(1, n_ues), random_scene(2, n_ues, streaming=False)


def first_scene(seed=0, n_ues=5, streaming=True):
    """Before the first round of an episode."""
    instance = random_instance(np.random.default_rng(seed), n_ues, resident=False)
    nothing = [np.zeros(ue.dnn.n_layers) for ue in instance.ues]
    memory = Memory(LIMIT_BYTES, nothing, np.zeros(n_ues, dtype=bool)) if streaming else None
    return Scene(instance, name="Streaming", rounds=20, memory=memory)
