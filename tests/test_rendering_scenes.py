"""Pictures of scenes: constant shape, the memory's changes are seen, nothing runs off the sheet."""

import dataclasses
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from PIL.ImageColor import getrgb

from mjoa_gym import DNN, UE, Instance, Plan, Scenario
from mjoa_gym.rendering import STYLES, Memory, Scene, scene_rgb
from mjoa_gym.rendering.picture import TILE, scene_sheet
from mjoa_gym.rendering.sheet import text_width
from mjoa_gym.rendering.style import DROPPED, GONE, RESIDENT, amount, faded, round_span
from tests.random_scenes import first_scene, random_scene, scenes_of

UPLOADED, PREFETCHED = STYLES["uplink", "parameters"].face, STYLES["uplink", "prefetch"].face
DNN_OF_4 = DNN("chain", [1.0] * 4, [1e6] * 4, [1e5] * 4, [[-1], [0], [1], [2]], 1e5)


def scene_of_4(kept=(1, 1, 1, 1), left=False, resident=(1, 0, 0, 0), prefetch=(0, 0, 1, 0)):
    """One UE: layer 0 is resident, 1 is executed at the edge, 2 is prefetched, 3 neither."""
    ue = UE(DNN_OF_4, [0.1] * 4, [0.01] * 4, 1e3, 1e3, resident=resident)
    instance = Instance([ue], 20e6)
    plan = Plan([[0, 1, 0, 0]], [1.0], [1.0], prefetch=[prefetch])
    memory = Memory(3e6, np.array([kept], dtype=float), np.array([left]))
    return Scene(instance, plan, "Streaming", 2, 5, 0.5, 1.0, memory)


def shelf_pixels(scene, colour):
    """How many pixels of a colour are in the part of the picture that shows the memory."""
    image = scene_rgb(scene)[60:, 860:]
    return int((image == getrgb(colour)).all(axis=2).sum())


@pytest.mark.parametrize(("width", "height"), [(1280, 720), TILE, (801, 433), (320, 180)])
def test_frames_of_an_episode_have_one_shape(width, height):
    scenes = [first_scene(), *(random_scene(seed) for seed in range(4))]
    names = {ue.dnn.name for scene in scenes for ue in scene.instance.ues}
    assert {"bert_base", "alexnet"} <= names
    assert any(stock.left for scene in scenes for stock in scene.stocks)
    for scene in scenes:
        image = scene_rgb(scene, width, height)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize("n_ues", [1, 2, 5, 15, 40])
def test_the_shape_does_not_depend_on_the_number_of_ues(n_ues):
    for streaming in (True, False):
        assert scene_rgb(random_scene(0, n_ues, streaming)).shape == (720, 1280, 3)


def test_the_default_size_suits_video_codecs():
    assert not any(n % 2 for n in (*scene_rgb(first_scene()).shape[:2], *TILE))


def test_the_same_scene_gives_the_same_pixels():
    scene = random_scene(3)
    image = scene_rgb(scene)
    assert np.array_equal(image, scene_rgb(scene))
    assert np.array_equal(image, scene_rgb(random_scene(3)))
    assert not np.array_equal(image, scene_rgb(random_scene(4)))
    assert not np.array_equal(image, scene_rgb(dataclasses.replace(scene, round=4)))


def test_stock_by_hand():
    (stock,) = scene_of_4(kept=(0, 1, 1, 0)).stocks
    assert stock.before.tolist() == [1, 0, 0, 0]
    assert stock.uploaded.tolist() == [0, 1, 0, 0]
    assert stock.prefetched.tolist() == [0, 0, 1, 0]
    assert stock.dropped.tolist() == [1, 0, 0, 0]
    assert (stock.kept_bytes, stock.total_bytes) == (2e6, 4e6)
    (stock,) = scene_of_4(kept=(0, 0, 0, 0), left=True).stocks
    assert stock.dropped.tolist() == [0, 0, 0, 0]
    assert stock.bytes_of(stock.after) == 3e6
    assert stock.kept_bytes == 0


def test_what_is_always_installed_is_no_upload():
    scene = scene_of_4(resident=(0,) * 4, kept=(0,) * 4)
    always = Instance(scene.instance.ues, 20e6, upload="preinstalled")
    (stock,) = dataclasses.replace(scene, instance=always).stocks
    assert stock.after.sum() == stock.dropped.sum() == 0


def test_the_memory_is_seen_to_grow():
    colours = (RESIDENT, UPLOADED, PREFETCHED, DROPPED, GONE)
    there = {colour: shelf_pixels(scene_of_4(kept=(1, 1, 1, 0)), colour) for colour in colours}
    assert there[RESIDENT] > 1000
    assert abs(there[UPLOADED] - there[PREFETCHED]) < 200
    assert there[UPLOADED] > 1000
    assert there[DROPPED] == there[GONE] == 0
    idle = scene_of_4(resident=(1, 1, 1, 0), prefetch=(0,) * 4, kept=(1, 1, 1, 0))
    assert shelf_pixels(idle, UPLOADED) == shelf_pixels(idle, PREFETCHED) == 0
    assert shelf_pixels(idle, RESIDENT) > there[RESIDENT] * 1.5


def test_evictions_are_seen():
    scene = scene_of_4(kept=(0, 1, 1, 0))
    assert shelf_pixels(scene, DROPPED) > 500
    assert shelf_pixels(scene, faded(RESIDENT)) > 1000
    texts = [text.text for text in scene_sheet(scene, 1280, 720).texts]
    assert "×" in texts
    assert "−1 MB dropped" in texts
    assert "server keeps 2 of 3 MB" in texts
    texts = [text.text for text in scene_sheet(scene_of_4(), 1280, 720).texts]
    assert not any("dropped" in text and text != "dropped" for text in texts)
    assert "×" not in texts


def test_departures_are_seen():
    scene = scene_of_4(kept=(0, 0, 0, 0), left=True)
    assert shelf_pixels(scene, GONE) > 1000
    assert shelf_pixels(scene, RESIDENT) == 0
    texts = [text.text for text in scene_sheet(scene, 1280, 720).texts]
    assert "left, with 3 MB" in texts


def test_title_and_legend_say_what_there_is():
    texts = [text.text for text in scene_sheet(random_scene(0), 1280, 720).texts]
    assert "Streaming · round 3 of 20" in texts
    assert any(text.startswith("reward 0.250 · weighted mean latency") for text in texts)
    assert {"prefetches", "was resident", "dropped"} <= set(texts)
    cold = random_scene(0, streaming=False, name="ColdStart")
    texts = [text.text for text in scene_sheet(cold, 1280, 720).texts]
    assert "ColdStart · round 3 of 20" in texts
    assert not any("prefetch" in text or "resident" in text for text in texts)
    texts = [text.text for text in scene_sheet(first_scene(), 1280, 720).texts]
    assert "Streaming · before round 1 of 20" in texts


def test_a_ue_has_its_latency_before_that_alone():
    texts = [text.text for text in scene_sheet(scene_of_4(), 1280, 720).texts]
    start = texts.index("UE 0 · chain · ")
    assert texts[start + 2] == "(alone 400 ms)"
    assert texts[start + 1].endswith(" ms")


@pytest.mark.parametrize("n_ues", [1, 3, 5, 9, 15, 40])
@pytest.mark.parametrize("size", [(1280, 720), TILE, (320, 180)])
def test_nothing_runs_off_the_sheet_and_no_texts_overlap(n_ues, size):
    for scene in scenes_of(n_ues):
        sheet = scene_sheet(scene, *size)
        for x, y, width, height, _ in sheet.boxes:
            assert min(x, y) >= -1e-6
            assert x + width <= size[0] + 1
            assert y + height <= size[1] + 1
        lines = {}
        for text in sheet.texts:
            end = text.x + text_width(text.text, text.size, text.bold)
            assert 0 <= text.x <= end <= size[0]
            assert 0 < text.y <= size[1]
            lines.setdefault(text.y, []).append((text.x, end))
        for spans in lines.values():
            spans.sort()
            ends = np.array(spans)
            assert (ends[1:, 0] >= ends[:-1, 1] - 1).all()


def test_unusual_rounds_are_drawn():
    ue = UE(DNN_OF_4, [0.0] * 4, [0.0] * 4, 0.0, 0.0)
    instance = Instance([ue, ue], 1e6)
    endless = Plan([[1] * 4] * 2, [0.5, 0.5], [0.5, 0.5])
    assert scene_rgb(Scene(instance, endless, round=1)).shape == (720, 1280, 3)
    assert scene_rgb(Scene(instance)).shape == (720, 1280, 3)
    for limit in (0.0, np.inf):
        memory = Memory(limit, np.zeros((2, 9)), np.array([True, False]))
        scene = Scene(instance, None, memory=memory)
        assert scene_rgb(scene).shape == (720, 1280, 3)
    bare = DNN("bare", [1.0], [0.0], [1.0], [[-1]], 1.0)
    memory = Memory(1e6, np.zeros((1, 1)), np.zeros(1, dtype=bool))
    scene = Scene(Instance([UE(bare, [1.0], [1.0], 1.0, 1.0)], 1e6), memory=memory)
    assert scene_rgb(scene).shape == (720, 1280, 3)


def test_wrong_scenes_and_sizes_are_refused():
    with pytest.raises(ValueError, match="size 100 x 50"):
        scene_rgb(first_scene(), 100, 50)
    scene = scene_of_4()
    memory = Memory(1e6, np.zeros((1, 4)), np.zeros(2, dtype=bool))
    with pytest.raises(ValueError, match="left has 2 entries for 1"):
        Scene(scene.instance, scene.plan, memory=memory)


def test_units_and_round_spans():
    assert amount(58.12e6) == "58.1 MB"
    assert amount(0.0, 244e6, unit=False) == "0"
    assert amount(1.2e9) == "1.2 GB"
    assert amount(0.0) == "0 B"
    assert amount(np.inf) == "no limit"
    assert [round_span(s) for s in (0.2, 0.21, 1.0, 7.0, 99.0)] == [0.2, 0.25, 1.0, 8.0, 100.0]


def test_drawing_needs_no_display_and_no_pyplot_and_text_no_matplotlib():
    code = (
        "import sys, mjoa_gym.rendering as r\n"
        "from tests.random_scenes import first_scene\n"
        "scene = first_scene()\n"
        "assert not {'matplotlib', 'PIL'} & sys.modules.keys()\n"
        "r.scene_text(scene), r.gantt_text(scene.timelines)\n"
        "assert not {'matplotlib', 'PIL'} & sys.modules.keys()\n"
        "r.scene_rgb(scene), r.gantt_figure(scene.timelines)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    subprocess.run([sys.executable, "-c", code], check=True, env=kept | {"PATH": ""})


def test_shared_layers_are_counted_once():
    scenario = Scenario(
        dnns=("alexnet", "resnet18"), n_ues=3, share_parameters=True, departure_probability=0.5
    )
    env = gym.make("MJOA/Streaming-v1", scenario=scenario, render_mode="ansi")
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(8):
        *_, info = env.step(env.action_space.sample())
        (scene,) = env.unwrapped.core.pictures.scenes()
        kept = sum(scene.server.kept) + scene.server.others
        assert kept == pytest.approx(info["resident_bytes"], abs=1.0)
        assert scene.server.dropped == info["dropped_bytes"]
        assert "server keeps" in env.render()
    assert scene_rgb(scene).shape[2] == 3
