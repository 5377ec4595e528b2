"""Pictures: shape, colours where they belong, text that fits, no display and no pyplot."""

import sys

import numpy as np
import pytest
from PIL import Image

from mjoa_gym import DNN, UE, Instance, Plan, simulate, timelines
from mjoa_gym.rendering import STYLES, gantt_figure, gantt_text, overlap

CHAIN = DNN("chain", [1.0] * 4, [1e6] * 4, [1e5] * 4, [[-1], [0], [1], [2]], 1e5)


def chain_timeline(upload="parallel", placement=(0, 1, 1, 0), uplink_bps=80e6, prefetch=None):
    return simulate(
        CHAIN, placement, [0.1] * 4, [0.1] * 4, uplink_bps, 80e6, upload=upload, prefetch=prefetch
    )


def five_ues():
    rng = np.random.default_rng(0)
    n = 30
    dnn = DNN(
        "long", [1.0] * n, rng.uniform(1e5, 1e6, n), [1e5] * n, [[i - 1] for i in range(n)], 1e5
    )
    ue_s = rng.uniform(0.01, 0.05, (5, n))
    instance = Instance([UE(dnn, s, s / 20, 100.0, 100.0) for s in ue_s], 50e6)
    marks = [np.ones(n)] * 5
    plan = Plan([[0] * 3 + [1] * 20 + [0] * 7] * 5, [0.2] * 5, [0.2] * 5, prefetch=marks)
    return timelines(instance, plan)


def pixels(charts, **options):
    """The chart as an image."""
    figure = gantt_figure(charts, **options)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def rgb_of(key):
    face = STYLES[key].face
    return tuple(int(face[k : k + 2], 16) for k in (1, 3, 5))


def has_colour(image, key):
    return bool((image == np.array(rgb_of(key), dtype=np.uint8)).all(axis=2).any())


def test_the_shape_depends_on_the_number_of_timelines_only():
    charts = five_ues()
    image = pixels(charts, width=801)
    assert image.shape[1] == 801
    assert np.array_equal(image, pixels(charts, width=801))
    assert pixels([chain_timeline()] * 5, width=801).shape == image.shape
    assert pixels(charts).shape[1] == 960


def test_colours_show_what_happens():
    image = pixels([chain_timeline(prefetch=[0, 0, 0, 1])])[32:]  # below the legend
    assert all(has_colour(image, key) for key in STYLES)
    image = pixels([chain_timeline(placement=[0] * 4)])[32:]
    assert [key for key in STYLES if has_colour(image, key)] == [("ue", "execute")]


def test_bars_lie_where_their_times_are():
    image = pixels([chain_timeline(placement=[0] * 4)], width=1000)
    blue = (image[32:] == np.array(rgb_of(("ue", "execute")))).all(axis=2).any(axis=0)
    columns = np.flatnonzero(blue)
    assert abs(columns[0] - 84) <= 1
    assert abs(columns[-1] - (1000 - 24)) <= 2
    half = chain_timeline(uplink_bps=8e6)
    image = pixels([half, chain_timeline(placement=[0] * 4)], width=1000)[-122:]
    blue = (image == np.array(rgb_of(("ue", "execute")))).all(axis=2).any(axis=0)
    end = 84 + (1000 - 24 - 84) * 0.4 / half.latency
    assert abs(np.flatnonzero(blue)[-1] - end) <= 3


def test_figure_saves_in_vector_and_pixel_formats(tmp_path):
    figure = gantt_figure([chain_timeline("serial"), chain_timeline()], ["serial", "parallel"])
    for name in ("chart.svg", "chart.png", "chart.pdf"):
        figure.savefig(tmp_path / name)
    saved = np.asarray(Image.open(tmp_path / "chart.png").convert("RGB"))
    assert saved.shape == (2 * 72 + 30 + 52 + 50, 960, 3)
    assert has_colour(saved[32:], ("ue", "execute"))
    assert has_colour(saved[32:], ("uplink", "parameters"))
    assert STYLES["edge", "execute"].face.lower() in (tmp_path / "chart.svg").read_text()
    assert (tmp_path / "chart.pdf").read_bytes().startswith(b"%PDF")


def test_endless_and_empty_rounds_are_drawn():
    endless = chain_timeline(uplink_bps=0.0)
    assert endless.latency == np.inf
    assert "never finishes" in gantt_text([endless])
    assert pixels([endless]).shape == (174, 960, 3)
    instant = simulate(CHAIN, [0] * 4, [0.0] * 4, [0.0] * 4, 1e6, 1e6)
    assert pixels([instant]).shape == (174, 960, 3)
    assert gantt_text([instant]).startswith("UE 0: 0 ")


def test_a_round_of_ues_without_shares_is_drawn():
    ue = UE(CHAIN, [0.1] * 4, [0.1, 0.0, 0.1, 0.1], 10.0, 10.0)
    instance = Instance([ue, ue], 1e6)
    charts = timelines(instance, Plan([[0] * 4] * 2, [0.0, 0.0], [0.0, 0.0]))
    assert [chart.latency for chart in charts] == pytest.approx([0.4, 0.4])
    assert pixels(charts).shape == (276, 960, 3)


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_text_fits_and_shows_every_lane(width):
    lines = gantt_text(five_ues(), [f"UE {i} with a rather long title" for i in range(5)], width)
    rows = lines.splitlines()
    assert max(map(len, rows)) <= width
    assert sum("edge share" in row for row in rows) == 5
    assert len({len(row) for row in rows if "│" in row}) == 1


def test_text_tells_the_kinds_apart():
    rows = gantt_text([chain_timeline(prefetch=[0, 0, 0, 1])]).splitlines()
    assert rows[0].startswith("UE 0: ")
    processor, uplink, edge, downlink = (row.split("│")[1] for row in rows[1:5])
    assert set("█") <= set(processor) & set(edge)
    assert set("▒▓░") <= set(uplink)
    assert "▓" in downlink


def test_overlap_by_hand():
    # uplink 80 Mbit/s = 10 MB/s: 0.1 s per layer, 0.01 s per tensor
    # parallel: parameters of 1 and 2 run 0-0.1 (beside layer 0), 0.1-0.21 around the activation,
    # which is sent 0.1-0.11; layer 1 executes at the edge from 0.11 to 0.21: all beside execution
    assert overlap(chain_timeline("parallel")) == pytest.approx(1.0)
    assert overlap(chain_timeline("serial")) == 0.0
    assert overlap(chain_timeline(placement=[0] * 4)) == 0.0


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="timelines is empty"):
        pixels([])
    with pytest.raises(ValueError, match="titles has 2 entries for 1"):
        gantt_text([chain_timeline()], ["a", "b"])
    with pytest.raises(ValueError, match="width=10"):
        gantt_text([chain_timeline()], width=10)


def test_missing_matplotlib_is_told_with_the_remedy(monkeypatch):
    for name in [m for m in sys.modules if m.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'mjoa-gym\[render\]'"):
        gantt_figure([chain_timeline()])
    assert "processor" in gantt_text([chain_timeline()])  # text needs none
