"""Menus of placements: what is on them, in which order, and what they cost."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mjoa_gym import DNN, Scenario
from mjoa_gym.devices import load_device
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.planners import menu as menus
from mjoa_gym.planners import planner_of
from mjoa_gym.planners.menu import ENTRIES, fingerprint, found_menu, menu_of, stored_menu

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from menu_gap import EXPERTS, gap_of  # noqa: E402
from played_rounds import played_rounds  # noqa: E402

QUICK = ("alexnet", "vgg16", "squeezenet1_1")
UNSTORED = Scenario(dnns=QUICK, n_ues=11)
both = pytest.mark.parametrize("streaming", [False, True])


def entries(scenario: Scenario, streaming: bool) -> list[np.ndarray]:
    """The placements of every network, after checking what holds for any menu."""
    menu = menu_of(scenario, streaming)
    assert menu.placements.dtype == np.int8
    assert menu.size.dtype == np.int64
    assert menu.placements.shape == (
        len(scenario.dnns),
        menu.size.max(),
        scenario.tables.width,
    )
    assert ((menu.placements == 0) | (menu.placements == 1)).all()
    found = []
    for d, dnn in enumerate(scenario.profiles):
        m, n = menu.size[d], dnn.n_layers
        assert 2 <= m <= ENTRIES
        own = menu.placements[d, :m, :n]
        assert not menu.placements[d, m:].any()
        assert not menu.placements[d, :, n:].any()
        assert not own[0].any()
        assert own[-1].all()
        assert len({placement.tobytes() for placement in own}) == m
        edge_bytes = own @ dnn.parameter_bytes
        assert (np.diff(edge_bytes) >= 0).all()
        found.append(own)
    return found


@both
@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_every_upload_mode_and_number_of_ues_has_menus(upload, streaming):
    for n_ues in (1, 15):
        found = entries(Scenario(dnns=QUICK, upload=upload, n_ues=n_ues), streaming)
        assert upload == "preinstalled" or min(len(own) for own in found) > 3


@both
def test_blocks_have_menus(streaming):
    entries(Scenario(dnns=("googlenet", "resnet18"), granularity="block"), streaming)


@both
def test_packaged_scenarios_have_menus(streaming):
    for name in Scenario.names():
        found = entries(Scenario.load(name), streaming)
        assert max(len(own) for own in found) == ENTRIES


def test_packaged_menus_are_stored(monkeypatch):
    """With any number of UEs up to ten, for each network alone, whatever the other fields."""

    def searches(*_):
        raise AssertionError("is not stored")

    monkeypatch.setattr(menus, "found_menu", searches)
    stored = [Scenario.load(name) for name in Scenario.names()]
    stored += [Scenario(n_ues=n, rounds=3, dnns=("googlenet",)) for n in range(1, 11)]
    stored += [Scenario(dnns=DNN.names(), server_memory_bytes=1e6)]
    for scenario in stored:
        for streaming in (False, True):
            menus._menu_of.__wrapped__(scenario, streaming, ENTRIES)
    with pytest.raises(AssertionError, match="is not stored"):
        menu_of(UNSTORED.with_changes(dnns=QUICK[:1], rounds=5), True)


def test_a_fingerprint_tells_what_a_menu_depends_on():
    def of(streaming=True, entries=ENTRIES, **changes):
        return fingerprint(Scenario(**{"dnns": ("googlenet",), **changes}), 0, streaming, entries)

    dnn, device = DNN.load("googlenet"), load_device("phone-cpu")
    content = dnn.to_dict()
    content["layers"][7]["output_bytes"] += 1000
    devices = Scenario().ue_devices
    assert devices[-1] == "phone-cpu"
    different = [
        of(), of(streaming=False), of(entries=8), of(n_ues=4), of(bandwidth_hz=1e7),
        of(upload="serial"), of(message_s=1e-3), of(edge_speed=0.5), of(rayleigh_fading=False),
        of(ue_devices=(*devices[:-1], device.scaled(1.001))), of(granularity="block"),
        of(edge_device="server-gpu"), of(dnns=(DNN.from_dict(content),)), of(ue_speed_min=0.1),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    assert of(dnns=(dnn, "alexnet"), ue_devices=(*devices[:-1], device), rounds=3) == of()
    assert of(weight_max=2.0, period_s=0.5, name="other", edge_speed=0.25 + 1e-16) == of()


def as_good(scenario: Scenario, d: int, streaming: bool) -> None:
    """Check a stored menu against the one that is found now.

    PBT-DP finds better placements than it did when they were stored, which is what defines the
    environments' entries. A stored menu is right as long as it is not much worse: under fresh
    conditions its mean excess latency may be greater by 1 percentage point, and by 5 where it is
    the first version's, chosen under fewer kinds of conditions.
    """
    stored = stored_menu(scenario, d, streaming, ENTRIES)
    found = found_menu(scenario, d, streaming, ENTRIES)
    assert stored is not None
    if np.array_equal(stored, found):
        return
    conditions, candidates = menus._proposals(scenario, d, streaming, seed=1)
    excess = menus._excess(np.concatenate([stored, found, candidates]), conditions)
    means = [excess[:, : len(stored)].min(axis=1).mean()]
    means += [excess[:, len(stored) : len(stored) + len(found)].min(axis=1).mean()]
    margin = 5e-2 if scenario.name.startswith("ideal") and streaming else 1e-2
    assert means[0] <= means[1] + margin, (scenario.name, scenario.dnns[d], streaming, means)


@both
def test_stored_menus_are_as_good_as_what_is_found(streaming):
    scenario = Scenario()
    for name in ("mobilenet_v2", "resnet18"):
        as_good(scenario, scenario.dnns.index(name), streaming)


@pytest.mark.slow
@both
def test_all_stored_menus_are_as_good_as_what_is_found(streaming):
    every = [Scenario.load(name) for name in ("default", "ideal")]
    every = [scenario.with_changes(dnns=DNN.names()) for scenario in every]
    for scenario in [*map(Scenario.load, Scenario.names()), *every]:
        for d in range(len(scenario.dnns)):
            as_good(scenario, d, streaming)


def test_the_default_menu_is_read_only_and_computed_once():
    menu = menu_of(Scenario(), True)
    assert not menu.placements.flags.writeable
    assert not menu.size.flags.writeable
    assert menu_of(Scenario(), True) is menu
    assert menu_of(Scenario(rounds=7, departure_probability=0.5, name="other"), True) is menu
    assert menu_of(Scenario(), False) is not menu
    assert menu_of(Scenario(n_ues=3), True) is not menu


@both
def test_shorter_menus_hold_what_longer_ones_begin_with(streaming):
    scenario = Scenario(dnns=QUICK)
    menus = [menu_of(scenario, streaming, entries) for entries in (2, 5, 8)]
    assert [menu.size.max() for menu in menus] == [2, 5, 8]
    for d in range(len(QUICK)):
        short, middle, long = (
            {placement.tobytes() for placement in menu.placements[d, : menu.size[d]]}
            for menu in menus
        )
        assert short < middle < long
    with pytest.raises(ValueError, match="entries=1"):
        menu_of(scenario, streaming, 1)


def test_a_menu_does_not_depend_on_the_other_networks():
    several, alone = UNSTORED, UNSTORED.with_changes(dnns=QUICK[1:2])
    np.testing.assert_array_equal(entries(several, True)[1], entries(alone, True)[0])


def test_other_processes_find_the_same():
    program = (
        "import hashlib; from mjoa_gym import Scenario\n"
        "from mjoa_gym.planners.menu import menu_of\n"
        f"menus = [menu_of(Scenario(dnns={QUICK}, n_ues=11), s) for s in (False, True)]\n"
        "print(hashlib.sha256(b''.join(m.placements.tobytes() for m in menus)).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    menus = [menu_of(UNSTORED, streaming) for streaming in (False, True)]
    ours = hashlib.sha256(b"".join(menu.placements.tobytes() for menu in menus)).hexdigest()
    assert done.stdout.strip() == ours


@both
def test_a_single_layer_is_here_or_there(streaming):
    dnn = DNN("one", [1e9], [1e6], [1e3], [[-1]], 1e5)
    assert [own.tolist() for own in entries(Scenario(dnns=(dnn,)), streaming)] == [[[0], [1]]]


@both
def test_objects_zero_times_and_parameter_free_layers(streaming):
    """A diamond with a layer that takes no time, one without parameters, and two outputs."""
    dnn = DNN(
        name="odd",
        flops=[2e9, 0, 3e9, 1e9, 0],
        parameter_bytes=[1e5, 0, 0, 5e6, 0],
        output_bytes=[1e5, 0, 2e5, 10, 0],
        predecessors=[[-1], [0], [0], [1, 2], [2, -1]],
        input_bytes=0,
    )
    devices = (load_device("odroid-xu4"), load_device("phone-cpu"))
    server = load_device("server-gpu")
    scenario = Scenario(dnns=(dnn, "alexnet"), ue_devices=devices, edge_device=server)
    assert len(entries(scenario, streaming)[0]) > 2


@both
def test_nothing_between_the_extremes_where_nothing_ever_offloads(streaming):
    scenario = Scenario(dnns=("alexnet", "resnet18"), edge_speed=1e-9)
    assert [len(own) for own in entries(scenario, streaming)] == [2, 2]


@both
def test_ues_out_of_reach_get_menus(streaming):
    assert len(entries(Scenario(dnns=("alexnet",), snr_max_db=-4000, snr_min_db=-4000), streaming))


@pytest.mark.parametrize(("streaming", "worst"), [(False, 0.25), (True, 0.5)])
def test_free_placement_is_hardly_better(streaming, worst):
    """The expert's shares and residencies in episodes of the default scenario."""
    setting = Setting("streaming" if streaming else "cold-start", Scenario())
    menu = menu_of(setting.scenario, streaming)
    expert = planner_of(EXPERTS[setting.environment])
    gaps = [
        gap_of(setting.scenario, menu, instance, plan)
        for instance, plan, _ in played_rounds(expert, setting, range(100, 102))
    ]
    inferences = np.concatenate([gap.inferences for gap in gaps])
    assert len(inferences) > 50
    assert inferences.min() > -0.03  # PBT-DP is near-optimal on networks that are no chains
    assert inferences.mean() < 0.03
    assert inferences.max() < worst
    assert np.mean([gap.same_shares for gap in gaps]) < 0.03
    assert np.mean([gap.divided_anew for gap in gaps]) < 0.03
