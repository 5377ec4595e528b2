"""Chooses the frozen instances: 200 cold starts of 1 to 50 UEs, in five groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import DNN, UE, Instance
from mjoa_gym.evaluation.bench.instances import Case
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model.instance import evaluate_cost
from mjoa_gym.planners import plan_with
from mjoa_gym.world.population import random_population, to_instance
from mjoa_gym.world.scenario import Scenario
from tests.random_dags import STYLES, predecessors_in_style
from tests.random_dnns import random_dnn_arrays

FIRST_SEED = 3_000_000
"""First seed; nothing else in this repository uses seeds from here."""
LEAST_GAIN = 0.02
"""Instances in which MJOA-MU gains less over all-local are skipped, as planners hardly differ."""
MOST_NETWORKS = 4
"""Maximum number of random networks of an instance; its UEs draw from them."""
UES = (1, 2, 3, 4, 5, 8, 10, 15, 25, 50)
ALL = tuple(DNN.names())
V1 = (
    {}, {"dnns": ALL}, {"base": "slow-uplink"}, {"base": "measured-uplink"}, {"base": "chains"},
)  # fmt: skip
IDEAL = (
    {}, {"dnns": ALL}, {"weight_min": 0.5, "weight_max": 2.0}, {"bandwidth_hz": 20e6},
    {"edge_speed": 0.1},
)  # fmt: skip
DEADLINES = {"deadline_factor_min": 0.4, "deadline_factor_max": 0.9}
COSTS = (
    {"energy_price_s_per_j": 0.1}, {**DEADLINES, "miss_price_s": 1.0}, {"message_s": 0.02},
    {**DEADLINES, "miss_price_s": 0.5, "energy_price_s_per_j": 0.2}, {"parameter_bits": 8},
    {"parameter_bits": 4, "activation_bits": 8, "message_s": 0.01},
)  # fmt: skip
GROUPS = {"v1": 50, "ideal": 50, "chain": 35, "dag": 35, "costs": 30}


def frozen_cases() -> tuple[list[Case], list[NDArray[np.float64]]]:
    """Return the instances, and the tables from which their UEs' seconds are derived."""
    chosen: list[Case] = []
    tables: list[NDArray[np.float64]] = []
    for number, (group, count) in enumerate(GROUPS.items()):
        for k in bar(range(count), desc=group):
            n_ues = UES[k % len(UES)]
            for attempt in range(100):
                seed = FIRST_SEED + 100_000 * number + 100 * k + attempt
                instance, used = drawn(group, k, n_ues, np.random.default_rng(seed))
                if gain_of(instance) >= LEAST_GAIN:
                    break
            else:
                raise ValueError(f"{group} {k}: no instance gains anything")
            chosen.append(Case(f"{group}-{k:02d}", group, instance))
            tables += used
    return chosen, tables


def gain_of(instance: Instance) -> float:
    """Return by which fraction MJOA-MU's plan costs less than all-local."""
    plan = plan_with("mjoa-mu", instance)
    return 1.0 - float(evaluate_cost(instance, plan).sum() / instance.local_cost.sum())


def drawn(
    group: str, k: int, n_ues: int, rng: np.random.Generator
) -> tuple[Instance, list[NDArray[np.float64]]]:
    """Draw an instance of a group, and return it with its tables of seconds."""
    if group in ("chain", "dag"):
        return random_networks(group == "chain", n_ues, rng)
    if group == "costs":
        base = ("default", "ideal")[k // len(COSTS) % 2]
        changes = {"base": base, "dnns": ALL, **COSTS[k % len(COSTS)]}
    else:
        kinds = V1 if group == "v1" else IDEAL
        # every number of UEs is combined with every kind
        kind = kinds[(k + k // len(UES)) % len(kinds)]
        changes = {"base": "ideal" if group == "ideal" else "default", **kind}
    scenario = Scenario.from_dict(changes).with_changes(n_ues=n_ues)
    instance = to_instance(scenario, random_population(scenario, n_ues, rng))
    tables = scenario.tables
    used = [
        seconds[..., :n].reshape(-1, n)
        for d, n in enumerate(tables.n_layers)
        for seconds in (tables.ue_s[d], tables.edge_s[d])
    ]
    return instance, [np.ascontiguousarray(row) for rows in used for row in rows]


def random_networks(
    chain: bool, n_ues: int, rng: np.random.Generator
) -> tuple[Instance, list[NDArray[np.float64]]]:
    """Draw UEs of different speeds with a few random networks, on links from poor to good."""
    networks = list(islice(kinds_of(chain, rng), min(n_ues, MOST_NETWORKS)))
    ues = []
    for i in range(n_ues):
        dnn, own, server = networks[i % len(networks)]
        snrs = 10.0 ** rng.uniform(0, 3, size=2)
        speed, weight = rng.uniform(0.5, 2.0), rng.choice([1.0, rng.uniform(0.5, 2.0)])
        # all UEs share a server with a few times one UE's speed, so its speed grows with them
        ues.append(UE(dnn, own / speed, server / n_ues**0.5, *snrs, weight=weight))
    band_hz = 10.0 ** rng.uniform(6.5, 7.5) * n_ues**0.5
    messages = float(rng.choice([0.0, 0.0, 0.002, 10.0 ** rng.uniform(-3, -1.5)]))
    return Instance(ues, band_hz, message_s=messages), [t for _, *both in networks for t in both]


def kinds_of(
    chain: bool, rng: np.random.Generator
) -> Iterator[tuple[DNN, NDArray[np.float64], NDArray[np.float64]]]:
    """Draw random networks, each with its seconds per layer on a UE and on the server."""
    styles = cycle(rng.permutation(STYLES).tolist())
    for style in styles:
        n_layers = int(np.exp(rng.uniform(np.log(4), np.log(60))))
        arrays = random_dnn_arrays(rng, n_layers, chain)
        if not chain:
            arrays["predecessors"] = predecessors_in_style(style, rng, n_layers)
        own, server = arrays.pop("ue_seconds"), arrays.pop("edge_seconds")
        name = f"{'chain' if chain else style.replace('_', '-')}-{rng.integers(1 << 32):08x}"
        yield DNN(name=name, **arrays), own, server
