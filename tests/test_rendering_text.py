"""Scenes as text that fits a terminal, and the frames of a vector environment."""

import numpy as np
import pytest

from mjoa_gym.rendering import scene_frames, scene_rgb, scene_text
from mjoa_gym.rendering.picture import TILE
from tests.random_scenes import first_scene, random_scene, scenes_of
from tests.test_rendering_scenes import scene_of_4


@pytest.mark.parametrize("n_ues", [1, 2, 5, 6, 12, 15, 16, 33, 40])
@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_text_fits_a_terminal(n_ues, columns):
    for scene in scenes_of(n_ues):
        rows = scene_text(scene, columns=columns).splitlines()
        assert max(map(len, rows)) <= columns
        assert len(rows) <= max(40, n_ues + 7)
        names = [f"UE {i} " if n_ues <= 16 else f"{i:>2} " for i in range(n_ues)]
        assert all(any(row.startswith(name) for row in rows) for name in names)


def test_text_of_five_ues_shows_every_lane_and_the_memory():
    text = scene_text(random_scene(0))
    rows = text.splitlines()
    assert len(rows) <= 40
    assert "Streaming · round 3 of 20" in rows[0]
    assert "reward 0.250" in text
    for lane in ("processor", "uplink", "edge share", "downlink", "memory"):
        assert sum(row.lstrip().startswith(f"{lane} │") for row in rows) == 5
    assert "server keeps" in rows[-1]


def test_text_shows_evictions_and_departures():
    rows = scene_text(scene_of_4(kept=(0, 1, 1, 0))).splitlines()
    assert "    memory │×▒░·│ 2 of 4 MB, +2, −1" in rows
    assert "server keeps 2 of 3 MB, dropped 1 MB" in rows
    rows = scene_text(scene_of_4(kept=(0,) * 4, left=True)).splitlines()
    assert "    memory │---·│ left, 3 MB" in rows
    assert "server keeps 0 of 3 MB, left: UE 0" in rows
    assert "×" not in scene_text(scene_of_4()).replace("× dropped", "")
    partly = scene_text(scene_of_4(kept=(1, 1, 1, 0), resident=(0.5, 0, 0, 0)))
    assert "│▄▒░·│" in partly


def test_text_of_a_cold_start_has_no_memory():
    text = scene_text(random_scene(0, streaming=False))
    assert not any(word in text for word in ("prefetch", "memory", "server keeps"))


def test_text_is_repeatable_and_refuses_too_little_room():
    assert scene_text(random_scene(5)) == scene_text(random_scene(5))
    with pytest.raises(ValueError, match="columns=39"):
        scene_text(random_scene(0), columns=39)


def test_frames_of_a_vector_environment():
    scenes = [first_scene(), random_scene(1), random_scene(2)]
    frames = scene_frames(scenes, num_envs=5)
    assert len(frames) == 5
    assert {frame.shape for frame in frames} == {(TILE[1], TILE[0], 3)}
    assert np.array_equal(frames[1], scene_rgb(scenes[1], *TILE))
    assert frames[3] is frames[4]
    assert not frames[3].flags.writeable
