"""The outlook is what it says it is, the same in every form, and depends on what all may see."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import mjoa_gym
from mjoa_gym import Plan, Scenario, decode_observation, evaluate, evaluate_energy
from mjoa_gym.devices import Power, load_device
from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.actions import ACTION_VIEWS, action_view
from mjoa_gym.envs.outlook import PER_ENTRY, PER_PROBE, PER_UE, PROBES, Outlook
from mjoa_gym.model.instance import packed_link
from mjoa_gym.model.link import seconds_for
from mjoa_gym.planners.menu import menu_of
from tests.responses import costs_of

LEARNED = [name for name in ACTION_VIEWS if name != "plan"]
every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
every_view = pytest.mark.parametrize("action", LEARNED)
RICH = {
    "weight_max": 3.0, "departure_probability": 0.2, "deadline_factor_min": 0.2,
    "deadline_factor_max": 1.2, "miss_price_s": 0.5, "energy_price_s_per_j": 0.1,
}  # fmt: skip
"""A scenario with everything that adds columns."""
SCENARIOS = {
    "default": {},
    "ideal": "ideal",
    "rich": RICH,
    "kept": {"share_parameters": False},
    "shared": {"retain": False},
    "traced": "measured-uplink",
    "serial": {"upload": "serial", "deadline_min_s": 0.1, "deadline_max_s": 2.0},
}
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


def played(env_id, action, steps=7, n_envs=4, observation="dict", **arguments):
    """A batch of observations after some random steps, and the environments' insides."""
    envs = gym.make_vec(
        env_id, n_envs, vectorization_mode="vector_entry_point", action=action,
        observation=observation, **arguments,
    )  # fmt: skip
    seen, _ = envs.reset(seed=3)
    envs.action_space.seed(3)
    for _ in range(steps):
        seen, *_ = envs.step(envs.action_space.sample())
    return seen, envs.unwrapped.core


def ratio_of(numbers):
    """From the logarithmic scale back to a ratio."""
    return np.exp(10.0 * (np.asarray(numbers, np.float64) - 0.7)) - np.exp(-7.0)


def entries_of(seen, core, base=PER_ENTRY):
    """(E, N, M, columns) of the entries, and where each column that is no base column is."""
    layout, view = core.observation.layout, core.view
    extra = iter(range(base, layout.entry))
    names = {
        "kept": view.retains,
        "met": view.scenario.has_deadlines,
        "joules": view.scenario.energy_price_s_per_j > 0,
    }
    return (
        seen[..., layout.context :].reshape(*seen.shape[:2], layout.entries, layout.entry),
        {name: next(extra) for name, there in names.items() if there},
    )


@every_env
@every_view
@every_scenario
def test_it_is_in_its_space_and_the_same_from_a_dictionary(env_id, action, scenario):
    given = {"scenario": scenario, "steps": 12}
    seen, core = played(env_id, action, observation="outlook", **given)
    space = core.observation.space
    assert all(each in space for each in seen)
    assert seen.shape[1:] == space.shape == (5, space.layout.columns)
    shown, inside = played(env_id, action, observation="dict", **given)
    fresh = Outlook(action_view(action, inside.scenario, inside.persists))
    copied = {key: value.copy() for key, value in shown.items()}
    np.testing.assert_array_equal(fresh(copied), seen)


@every_env
@every_view
def test_single_environments_see_the_same(env_id, action):
    given = {"action": action, "observation": "outlook", "rounds": 3, "scenario": RICH}
    many = gym.make_vec(env_id, 3, vectorization_mode="vector_entry_point", **given)
    singles = [gym.make(env_id, **given) for _ in range(3)]
    together = many.reset(seed=5)[0]
    alone = [single.reset(seed=5 + e)[0] for e, single in enumerate(singles)]
    many.action_space.seed(0)
    for _ in range(3):
        np.testing.assert_array_equal(together, alone)
        actions = many.action_space.sample()
        together = many.step(actions)[0]
        alone = [single.step(own)[0] for single, own in zip(singles, actions, strict=True)]
    np.testing.assert_array_equal(together, alone)


@every_env
@every_scenario
def test_entries_lead_to_what_the_simulator_says(env_id, scenario):
    given = {"scenario": scenario, "steps": 9}
    seen, core = played(env_id, "multidiscrete", observation="outlook", **given)
    entries, at = entries_of(seen, core)
    shown, _ = played(env_id, "multidiscrete", observation="dict", **given)
    setting, n = core.scenario, core.scenario.n_ues
    assert (entries[..., 1] < 1.0).any()
    menu, equal = menu_of(setting, core.persists), np.full(n, 1 / n)
    for e in range(len(seen)):
        instance = decode_observation({k: v[e] for k, v in shown.items()}, setting)
        for entry in (0, 3, 6):
            rows = [
                menu.placements[d, entry, : ue.dnn.n_layers]
                for d, ue in zip(shown["dnn"][e], instance.ues, strict=True)
            ]
            plan = Plan(rows, equal, equal)
            latency_s = evaluate(instance, plan)
            numbers, expected = entries[e, :, entry, 1], latency_s / instance.local_s
            exists = entries[e, :, entry, 0] == 1.0
            np.testing.assert_array_equal(exists, entry < menu.size[shown["dnn"][e]])
            assert not entries[e, ~exists, entry].any()
            inside = exists & (numbers < 1.0)
            np.testing.assert_allclose(ratio_of(numbers)[inside], expected[inside], rtol=1e-4)
            if "met" in at:
                met = latency_s <= [ue.deadline_s for ue in instance.ues]
                np.testing.assert_array_equal(entries[e, exists, entry, at["met"]], met[exists])
            if "joules" in at:
                stay = [np.zeros_like(row) for row in rows]
                joules = evaluate_energy(instance, plan)
                joules /= evaluate_energy(instance, Plan(stay, equal, equal))
                got = ratio_of(entries[e, :, entry, at["joules"]])
                np.testing.assert_allclose(got[inside], joules[inside], rtol=1e-4)
            if "kept" in at:
                there = [
                    (row * ue.dnn.parameter_bytes * ue.resident).sum()
                    for row, ue in zip(rows, instance.ues, strict=True)
                ]
                kept = np.where(exists, there, 0.0) / setting.server_memory_bytes
                got = entries[e, :, entry, at["kept"]]
                np.testing.assert_allclose(got, kept, rtol=1e-5, atol=1e-7)


@every_env
@every_scenario
def test_bids_that_are_tried_lead_to_what_the_simulator_says(env_id, scenario):
    given = {"scenario": scenario, "steps": 9, "n_envs": 3}
    seen, core = played(env_id, "shares", observation="outlook", **given)
    tried, at = entries_of(seen, core, PER_PROBE)
    shown, _ = played(env_id, "shares", observation="dict", **given)
    setting, menu = core.scenario, menu_of(core.scenario, core.persists)
    assert tried[..., 1].min() < 0.7
    for e in range(len(seen)):
        instance = decode_observation({k: v[e] for k, v in shown.items()}, setting)
        parts = instance.local_cost / instance.local_cost.sum()
        np.testing.assert_allclose(seen[e, :, 1], parts, rtol=1e-5)
        for i, ue in enumerate(instance.ues):
            d = shown["dnn"][e, i]
            rows = menu.placements[d, : menu.size[d], : ue.dnn.n_layers]
            missing = ue.dnn.parameter_bytes * (1.0 - ue.resident)
            for probe, own in zip(PROBES, tried[e, i], strict=True):
                shares = probe * parts[i] / (1.0 + (probe - 1.0) * parts[i])
                row = rows[costs_of(instance, i, rows, *shares).argmin()]
                seconds, joules = told(instance, i, row, shares)
                assert own[0] == row.any()
                assert own[1] == pytest.approx(min(1.0, seconds / ue.local_s), rel=1e-5)
                link = packed_link(instance.packed, i, *shares)
                upload_s = min(1.0, seconds_for(row @ missing, link.up) / ue.local_s)
                assert own[2] == pytest.approx(upload_s, rel=1e-4, abs=1e-6)
                server_s = min(1.0, row @ ue.edge_seconds / shares[1] / ue.local_s)
                assert own[3] == pytest.approx(server_s, rel=1e-4, abs=1e-6)
                if "met" in at:
                    assert own[at["met"]] == (seconds <= ue.deadline_s)
                if "joules" in at:
                    assert ratio_of(own[at["joules"]]) == pytest.approx(joules, rel=1e-3)
                if not core.persists:
                    assert not own[4:6].any()
                    continue
                stocked = replace(ue, resident=np.ones(ue.dnn.n_layers))
                full = replace(instance, ues=[*instance.ues[:i], stocked, *instance.ues[i + 1 :]])
                small = rows[rows @ ue.dnn.parameter_bytes <= setting.server_memory_bytes]
                target = small[costs_of(full, i, small, *shares).argmin()]
                later_s = told(full, i, target, shares)[0] / ue.local_s
                assert own[4] == pytest.approx(min(1.0, later_s), rel=1e-5)
                part = target @ missing / setting.server_memory_bytes
                assert own[5] == pytest.approx(min(1.0, part), rel=1e-4, abs=1e-6)
                if "kept" in at:
                    there = target @ (ue.dnn.parameter_bytes - missing)
                    part = there / setting.server_memory_bytes
                    assert own[at["kept"]] == pytest.approx(part, rel=1e-4, abs=1e-6)


def told(instance, i, row, shares):
    """Seconds and joules (over all-local ones; 0 if not known) of UE i alone with a placement."""
    rows = [np.zeros(ue.dnn.n_layers, np.int8) for ue in instance.ues]
    stay = Plan(rows, *np.zeros((2, len(rows))))
    rows[i] = row
    alone = np.zeros((2, len(rows)))
    alone[:, i] = shares
    plan = Plan(rows, *alone)
    joules = 0.0
    if instance.energy_price_s_per_j > 0.0:
        joules = evaluate_energy(instance, plan)[i] / evaluate_energy(instance, stay)[i]
    return evaluate(instance, plan)[i], joules


def test_what_a_ue_has_besides():
    seen, core = played(
        "MJOA/Streaming-v1", "multidiscrete", steps=9, observation="outlook", scenario=RICH
    )
    setting, state = core.scenario, core.batch.state
    people, memory_bytes = state.population, setting.server_memory_bytes
    assert core.observation.layout.ue == PER_UE + 4
    for e in range(len(seen)):
        held = state.resident[e] * setting.tables.parameter_bytes
        assert seen[e, :, 10] == pytest.approx(held.sum() / memory_bytes, rel=1e-5)
        for i, own in enumerate(seen[e]):
            d, kind = people.dnn[e, i], people.device[e, i]
            here = held[d].sum()
            assert own[9] == pytest.approx(here / memory_bytes, rel=1e-5)
            assert own[PER_UE] == pytest.approx((people.dnn[e] == d).mean())
            unused = (held[d] * state.idle[e, d]).sum() / here if here else 0.0
            assert own[PER_UE + 1] == pytest.approx(unused / (1.0 + unused), rel=1e-5)
            local_s = setting.tables.local_s[d, kind] / people.speed[e, i]
            deadline = people.deadline_s[e, i] / local_s
            assert ratio_of(own[PER_UE + 2]) == pytest.approx(deadline, rel=1e-4)
            counts = setting.energy_price_s_per_j * setting.devices[kind].power.compute_w
            assert ratio_of(own[PER_UE + 3]) == pytest.approx(counts, rel=1e-4)


def test_ideal_has_no_columns_of_its_own():
    for env_id in ENTRY_POINTS:
        env = gym.make(env_id, action="box", observation="outlook", scenario="ideal")
        layout = env.observation_space.layout
        assert (layout.ue, layout.added, layout.entry) == (PER_UE, 0, PER_ENTRY)


@every_view
@pytest.mark.parametrize("scenario", [{}, "ideal", RICH], ids=["default", "ideal", "rich"])
def test_ues_may_come_in_any_order(action, scenario):
    shown, core = played("MJOA/Streaming-v1", action, steps=10, scenario=scenario)
    order = np.array([3, 0, 4, 1, 2])
    of_all = ("round", "turn", "memory", "memory_idle")
    shuffled = {k: v if k in of_all else v[:, order] for k, v in shown.items()}
    outlook = Outlook(core.view)
    np.testing.assert_allclose(outlook(shuffled), outlook(shown)[:, order], atol=1e-6)


def test_the_first_ue_is_the_one_whose_turn_it_is():
    observation, core = played("MJOA/Streaming-v1", "discrete", steps=8)
    assert (observation["turn"] == 3).all()
    outlook = Outlook(core.view)
    seen = outlook(observation)
    unturned = outlook(observation | {"turn": np.zeros_like(observation["turn"])})
    np.testing.assert_array_equal(seen, np.roll(unturned, -3, axis=1))
    np.testing.assert_array_equal(seen[..., outlook.layout.ue], [[0, 0, 1, 1, 1]] * 4)


@pytest.mark.parametrize("action", ["multidiscrete", "shares"])
def test_threads_make_no_difference(action):
    given = {"n_envs": 64, "observation": "outlook"}
    one, two = (played("MJOA/Streaming-v1", action, threads=n, **given) for n in (1, 2))
    np.testing.assert_array_equal(one[0], two[0])


@pytest.mark.parametrize("action", ["multidiscrete", "shares"])
def test_nothing_is_divided_by_zero(action):
    nothing = {"server_memory_bytes": 0.0, "period_s": 0.0, "energy_price_s_per_j": 1.0}
    idler = replace(load_device("phone-cpu"), power=Power(0.0, 0.0, 0.0, 0.0))
    seen, core = played(
        "MJOA/Streaming-v1", action, observation="outlook",
        scenario=nothing | {"ue_devices": [idler]},
    )  # fmt: skip
    assert all(each in core.observation.space for each in seen)


@every_env
@pytest.mark.parametrize(
    "make",
    [
        gym.make,
        lambda env_id, **given: gym.make_vec(
            env_id, 2, vectorization_mode="vector_entry_point", **given
        ),
    ],
    ids=["one", "vector"],
)
def test_a_view_without_a_menu_is_refused(make, env_id):
    expected = r"observation='outlook': allowed are \['flat', 'dict'\] with a PlanView"
    with pytest.raises(ValueError, match=expected):
        make(env_id, action="plan", observation="outlook")


def test_what_an_outlook_does_not_say():
    seen, core = played("MJOA/Streaming-v1", "multidiscrete", observation="outlook")
    with pytest.raises(ValueError, match="an outlook does not say who the UEs are"):
        decode_observation(seen[0], core.scenario)


def test_spaces_are_equal_if_their_columns_mean_the_same():
    late = {"deadline_min_s": 1.0, "deadline_max_s": 2.0}
    ideal, again, dear, hurried = (
        gym.make(
            "MJOA/Streaming-v1", action="multidiscrete", observation="outlook",
            scenario={"base": "ideal", **changes},
        ).observation_space
        for changes in ({}, {}, {"energy_price_s_per_j": 0.1}, late)
    )  # fmt: skip
    assert ideal == again
    assert dear.shape == hurried.shape
    assert dear != hurried


def test_dictionaries_that_do_not_fit_are_refused():
    shown, core = played("MJOA/Streaming-v1", "multidiscrete", scenario=RICH)
    outlook = Outlook(core.view)
    for key in ("dnn", "memory", "round", "deadline_s"):
        with pytest.raises(ValueError, match=f"no entry '{key}'"):
            outlook({k: v for k, v in shown.items() if k != key})
    one_by_one, core = played("MJOA/Streaming-v1", "discrete", scenario=RICH)
    for key in ("chosen", "turn"):
        with pytest.raises(ValueError, match=f"no entry '{key}'"):
            Outlook(core.view)({k: v for k, v in one_by_one.items() if k != key})
    with pytest.raises(TypeError, match="Outlook goes with a MenuView"):
        Outlook(action_view("plan", Scenario(), persists=True))
    more = Outlook(action_view("box", Scenario.of(RICH).with_changes(n_ues=6), persists=True))
    with pytest.raises(ValueError, match="shows 5 UEs, not 6"):
        more(shown)


@every_env
def test_every_agent_of_pettingzoo_sees_its_own_row_first(env_id):
    pytest.importorskip("pettingzoo")
    given = {"action": "multidiscrete", "observation": "outlook", "n_ues": 3, "rounds": 2}
    many, one = mjoa_gym.parallel_env(env_id, **given), gym.make(env_id, **given)
    seen, _ = one.reset(seed=1)
    for i, (agent, own) in enumerate(many.reset(seed=1)[0].items()):
        assert own in many.observation_space(agent)
        np.testing.assert_array_equal(own, np.roll(seen, -i, axis=0))
    np.testing.assert_array_equal(many.state(), seen)
