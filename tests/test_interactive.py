"""The interactive timeline's page: what is embedded in it is what was simulated."""

import gzip
import re
import sys
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mjoa_gym import DNN, simulate
from mjoa_gym.rendering import interactive
from mjoa_gym.rendering.interactive import page_data, timeline_html
from mjoa_gym.rendering.style import LANES, STYLES
from tests.one_ue_pages import HOSTILE, TOY, UPLINK_BPS, embedded, toy_page, toy_timelines

pytest.importorskip("plotly", reason="needs the extra `explore`")


class Tags(HTMLParser):
    """Notes every tag's attributes, and every text outside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.attributes, self.texts, self.open = [], [], None

    def handle_starttag(self, tag, attributes):
        self.open = tag
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, text):
        if self.open not in ("script", "style"):
            self.texts.append(text)


@pytest.fixture(scope="module")
def page():
    return toy_page(title="A <title>", subtitle="a & b", below="<p id='more'>more</p>")


def test_the_embedded_intervals_are_those_of_the_simulator(page):
    data = embedded(page)
    timelines = toy_timelines()
    assert [tuple(view["choice"]) for view in data["views"]] == list(timelines)
    for view in data["views"]:
        stored = data["timelines"][view["timeline"]]
        timeline = timelines[tuple(view["choice"])]
        assert stored["latency"] == timeline.latency
        rebuilt = [
            (data["kinds"][kind]["resource"], data["kinds"][kind]["what"], layer, start, end)
            for kind, layer, start, end in stored["intervals"]
        ]
        assert rebuilt == [tuple(interval) for interval in timeline.intervals]


def test_the_switches_offer_every_way_of_uploading_and_every_planner(page):
    assert embedded(page)["switches"] == [
        {"name": "Uploading", "options": ["parallel", "serial"]},
        {"name": "Planner", "options": ["cut", "all", "none"]},
    ]


def test_layers_lanes_and_colours_are_those_of_the_other_charts(page):
    data = embedded(page)
    assert data["dnn"]["layer_names"] == list(TOY.layer_names)
    assert data["dnn"]["kinds"] == list(TOY.kinds)
    assert data["dnn"]["parameter_bytes"] == TOY.parameter_bytes.tolist()
    assert data["dnn"]["output_bytes"] == TOY.output_bytes.tolist()
    assert {lane["resource"]: lane["label"] for lane in data["lanes"]} == LANES
    faces = {(kind["resource"], kind["what"]): kind["face"] for kind in data["kinds"]}
    assert faces == {key: style.face for key, style in STYLES.items()}


def test_equal_timelines_are_stored_once(page):
    data = embedded(page)
    local = [view["timeline"] for view in data["views"] if view["choice"][1] == "none"]
    assert len(local) == 2
    assert len(set(local)) == 1
    assert len(data["timelines"]) == 5


def test_the_page_refers_to_nothing_outside_itself(page):
    tags = Tags()
    tags.feed(page)
    loading = [
        (tag, name, value)
        for tag, name, value in tags.attributes
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert loading == []
    (policy,) = [v for tag, name, v in tags.attributes if name == "content" and "default-src" in v]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.S))
    assert "url(" not in style
    assert "@import" not in style


def test_names_and_titles_are_escaped(page):
    tags = Tags()
    tags.feed(page)
    assert not [tag for tag, _, _ in tags.attributes if tag == "img"]
    assert HOSTILE not in page
    assert embedded(page)["dnn"]["layer_names"][1] == HOSTILE
    assert "A <title>" in tags.texts
    assert "a & b" in tags.texts
    assert "more" in tags.texts


def test_the_library_is_embedded_whole(page):
    from plotly.offline import get_plotlyjs

    (packed,) = re.findall(r'<script type="text/plain" id="plotly">(.*?)</script>', page, re.S)
    assert gzip.decompress(b64decode(packed)).decode() == get_plotlyjs()


def test_an_inference_that_never_ends_is_null_in_the_data():
    stuck = simulate(
        TOY, [1] * 4, ue_seconds=[1] * 4, edge_seconds=[1] * 4, uplink_bps=0, downlink_bps=1
    )
    assert stuck.latency == np.inf
    (stored,) = embedded(timeline_html(TOY, {("a", "b"): stuck}, 0.0))["timelines"]
    assert stored["latency"] is None
    assert all(start is not None for _, _, start, _ in stored["intervals"])


def test_equal_pages_are_equal_to_the_byte(page):
    again = toy_page(title="A <title>", subtitle="a & b", below="<p id='more'>more</p>")
    assert again == page


def test_a_network_of_hundreds_of_layers_adds_little():
    dnn = DNN.load("densenet121")
    ones = np.ones(dnn.n_layers)
    half = np.arange(dnn.n_layers) % 2
    timeline = simulate(dnn, half, ones * 1e-3, ones * 1e-4, 5e7, 5e7)
    page = timeline_html(dnn, {("parallel", "half"): timeline}, 5e7)
    assert len(timeline.intervals) > 400
    assert len(page) - len(toy_page()) < 80_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timelines": {}}, "timelines is empty"),
        ({"switches": ("Planner",)}, "one option for each of"),
        ({"compare_with": ("serial", "nobody")}, "compare_with="),
        ({"uplink_bps": -1.0}, "uplink_bps=-1.0"),
        ({"uplink_bps": float("nan")}, "uplink_bps=nan"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {
        "dnn": TOY,
        "timelines": toy_timelines(),
        "uplink_bps": UPLINK_BPS,
        "switches": ("Uploading", "Planner"),
    }
    with pytest.raises(ValueError, match=message):
        page_data(**{**arguments, **changes})


def test_the_code_in_the_documentation_runs(capsys):
    text = (Path(__file__).resolve().parent.parent / "docs" / "exploring.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(block, {"__name__": "__main__"})
    assert capsys.readouterr().out.strip().endswith("MB")


def test_without_plotly_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    interactive._plotly_base64.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'mjoa-gym\[evaluation\]'"):
        toy_page()
