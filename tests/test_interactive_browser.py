"""The interactive timeline in a real browser: drawn, hovered, switched, zoomed, all offline."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from mjoa_gym import DNN, simulate
from mjoa_gym.rendering.interactive import timeline_html
from tests.one_ue_pages import HOSTILE, TOY, UPLINK_BPS, toy_page, toy_timelines

pytest.importorskip("plotly", reason="needs the extra `explore`")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium is missing: make test-browser"),
]
DRAWN = "return document.getElementById('chart').dataset.drawn"
SHORTEST = min(
    (i for i in toy_timelines()["parallel", "all"].by_resource["edge"]),
    key=lambda i: i.end - i.start,
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "window-size=1280,1100",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "timeline.html"
    file.write_text(toy_page(compare_with=None), "utf-8")
    return file


@pytest.fixture
def page(browser, path):
    """The freshly opened page; what it logs and fetches during the test is checked at its end."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    wait_for(browser, "parallel|cut")
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    fetched = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]


def wait_for(browser, drawn):
    WebDriverWait(browser, 30, 0.05).until(lambda b: b.execute_script(DRAWN) == drawn)


def bars(browser):
    """The bars on the screen, as rectangles with the name of what they are."""
    return browser.execute_script(
        """
        const chart = document.getElementById("chart");
        return [...chart.querySelectorAll(".barlayer .trace")].flatMap((group) =>
          [...group.querySelectorAll(".point path")].map((path) => {
            const box = path.getBoundingClientRect();
            return { name: group.__data__[0].trace.name, x: box.x, y: box.y, width: box.width,
                     height: box.height, fill: getComputedStyle(path).fill };
          }).filter((bar) => bar.width > 0));
        """
    )


def hover(browser, x, y):
    """Move the pointer to a place in the window, from outside the chart; the text that appears."""
    label = (By.CSS_SELECTOR, "#chart .hoverlayer .hovertext")
    point_at(browser, 1, 1)
    WebDriverWait(browser, 10, 0.05).until(lambda b: not b.find_elements(*label))
    point_at(browser, round(x), round(y))
    return WebDriverWait(browser, 10, 0.05).until(lambda b: b.find_element(*label).text)


def point_at(browser, x, y):
    move = ActionChains(browser, duration=0)
    move.w3c_actions.pointer_action.move_to_location(x, y)
    move.perform()


def pixel_of(browser, seconds):
    """Where a time is in the window."""
    return browser.execute_script(
        "const c = document.getElementById('chart'), a = c._fullLayout.xaxis;"
        "return c.getBoundingClientRect().x + a._offset + a.l2p(arguments[0] * unitOf(span())[0]);",
        seconds,
    )


def choose_upload(browser, option, side=0):
    box = browser.find_element(By.CSS_SELECTOR, f'#switch-{side}-0 input[value="{option}"]')
    box.find_element(By.XPATH, "..").click()


def choose_planner(browser, option, side=0):
    box = browser.find_element(By.CSS_SELECTOR, f'#switch-{side}-1 input[value="{option}"]')
    box.find_element(By.XPATH, "..").click()


def test_every_interval_is_a_bar_in_its_lane(page):
    timeline = toy_timelines()["parallel", "cut"]
    drawn = bars(page)
    assert len(drawn) == len(timeline.intervals)
    labels = [tick.text for tick in page.find_elements(By.CSS_SELECTOR, "#chart .ytick text")]
    assert labels == ["processor", "uplink", "edge share", "downlink"]
    rows = {bar["name"]: set() for bar in drawn}
    for bar in drawn:
        rows[bar["name"]].add(round(bar["y"]))
        assert bar["width"] >= 0.99
        assert bar["height"] > 20
    assert len(rows["sends an activation"]) == 2
    lanes = [rows[name] for name in ("UE executes", "uploads parameters", "edge executes")]
    assert max(map(len, lanes)) == 1
    assert len(set.union(*lanes)) == 3
    assert rows["uploads parameters"] == rows["prefetches"]


def test_bars_lie_where_the_intervals_are(page):
    timeline = toy_timelines()["parallel", "cut"]
    lefts = sorted(bar["x"] for bar in bars(page))
    expected = sorted(pixel_of(page, interval.start) for interval in timeline.intervals)
    assert lefts == pytest.approx(expected, abs=1.5)


def test_parameters_activations_and_prefetches_differ_in_colour(page):
    fills = {}
    for bar in bars(page):
        fills.setdefault(bar["name"], set()).add(bar["fill"])
    for a, b in (
        ("uploads parameters", "sends an activation"),
        ("uploads parameters", "prefetches"),
        ("prefetches", "sends an activation"),
        ("UE executes", "edge executes"),
    ):
        assert not fills[a] & fills[b]


def test_the_pointer_shows_layer_kind_bytes_and_times(page):
    timeline = toy_timelines()["parallel", "cut"]
    upload = next(i for i in timeline.intervals if i.what == "parameters" and i.layer == 2)
    row = next(bar for bar in bars(page) if bar["name"] == "uploads parameters")
    text = hover(page, pixel_of(page, (upload.start + upload.end) / 2), row["y"] + 10)
    assert "third" in text
    assert "layer 2, linear" in text
    assert re.search(r"uploads parameters\s*2 MB", text)
    assert f"{upload.start * 1e3:.3f} ms – {upload.end * 1e3:.3f} ms" in text
    takes = upload.end - upload.start
    assert f"takes {takes * 1e3:.0f} ms" in text or f"takes {takes:.3g} s" in text


def test_a_pre_empted_upload_says_how_much_each_piece_carries(page):
    uplink = toy_timelines()["parallel", "cut"].by_resource["uplink"]
    pieces = [i for i in uplink if i.what == "parameters" and i.layer == 1]
    assert len(pieces) == 2
    row = next(bar for bar in bars(page) if bar["name"] == "uploads parameters")
    for piece in pieces:
        text = hover(page, pixel_of(page, (piece.start + piece.end) / 2), row["y"] + 10)
        sent = (piece.end - piece.start) * UPLINK_BPS / 8
        assert re.search(rf"uploads parameters\s*{sent / 1e3:.0f} kB of its 1 MB", text)


def test_names_are_shown_as_they_are_and_never_run(page):
    choose_planner(page, "all")
    wait_for(page, "parallel|all")
    execution = next(
        i for i in toy_timelines()["parallel", "all"].by_resource["edge"] if i.layer == 1
    )
    row = next(bar for bar in bars(page) if bar["name"] == "edge executes")
    text = hover(page, pixel_of(page, (execution.start + execution.end) / 2), row["y"] + 10)
    assert HOSTILE in text
    assert page.find_elements(By.TAG_NAME, "img") == []


def test_a_bar_far_below_a_pixel_is_seen_and_can_be_pointed_at(page):
    choose_planner(page, "all")
    wait_for(page, "parallel|all")
    x = pixel_of(page, SHORTEST.start)
    per_second = pixel_of(page, 1.0) - pixel_of(page, 0.0)
    assert (SHORTEST.end - SHORTEST.start) * per_second < 0.01
    row = next(bar for bar in bars(page) if bar["name"] == "edge executes")
    text = hover(page, x + 3, row["y"] + row["height"] / 2)
    assert f"layer {SHORTEST.layer}" in text
    assert TOY.layer_names[SHORTEST.layer] in text


@pytest.mark.parametrize("choice", list(toy_timelines()), ids="-".join)
def test_the_switches_draw_every_timeline_with_its_latency(page, choice):
    timeline = toy_timelines()[choice]
    choose_upload(page, choice[0])
    choose_planner(page, choice[1])
    wait_for(page, "|".join(choice))
    assert len(bars(page)) == len(timeline.intervals)
    latency = f"{timeline.latency * 1e3:.0f} ms" if timeline.latency < 2 else None
    shown = latency or f"{timeline.latency:.3g} s"
    assert shown in page.find_element(By.ID, "summary-0").text
    title = page.find_element(By.CSS_SELECTOR, "#chart .annotation-text").text
    assert title == f"{', '.join(choice)}: {shown}"


def test_two_timelines_can_be_compared_on_one_axis(page):
    page.find_element(By.ID, "compare").click()
    wait_for(page, "parallel|cut parallel|cut")
    choose_upload(page, "serial", side=1)
    wait_for(page, "parallel|cut serial|cut")
    less = 1 - toy_timelines()["parallel", "cut"].latency / toy_timelines()["serial", "cut"].latency
    assert f"{100 * less:.1f} % less than below" in page.find_element(By.ID, "summary-0").text
    both = [toy_timelines()[upload, "cut"] for upload in ("parallel", "serial")]
    assert len(bars(page)) == sum(len(timeline.intervals) for timeline in both)
    end = max(i.end for timeline in both for i in timeline.intervals)
    chart = page.find_element(By.CSS_SELECTOR, "#chart .nsewdrag").rect
    assert pixel_of(page, end) == pytest.approx(chart["x"] + chart["width"], abs=8)
    page.find_element(By.ID, "compare").click()
    wait_for(page, "parallel|cut")


def test_a_kind_that_the_legend_hides_stays_hidden_when_switching(page):
    entry = "#chart .legend .traces"
    names = [e.text for e in page.find_elements(By.CSS_SELECTOR, f"{entry} .legendtext")]
    toggle = page.find_elements(By.CSS_SELECTOR, f"{entry} .legendtoggle")
    toggle[names.index("uploads parameters")].click()
    WebDriverWait(page, 10).until(
        lambda b: "uploads parameters" not in {bar["name"] for bar in bars(b)}
    )
    choose_upload(page, "serial")
    wait_for(page, "serial|cut")
    assert "sends an activation" in {bar["name"] for bar in bars(page)}
    assert "uploads parameters" not in {bar["name"] for bar in bars(page)}


def test_a_narrow_window_has_everything_within_it(page):
    size = page.get_window_size()
    try:
        page.set_window_size(620, 1000)
        chart = "document.getElementById('chart')"
        WebDriverWait(page, 10).until(
            lambda b: b.execute_script(f"return {chart}._fullLayout.width") <= 620
        )
        wait_for(page, "parallel|cut")
        overflow = "return document.documentElement.scrollWidth - window.innerWidth"
        assert page.execute_script(overflow) <= 0
        assert len(bars(page)) == len(toy_timelines()["parallel", "cut"].intervals)
    finally:
        page.set_window_size(size["width"], size["height"])


def test_dragging_zooms_and_a_double_click_shows_everything_again(page):
    per_second = "return document.getElementById('chart')._fullLayout.xaxis._m"
    before = page.execute_script(per_second)
    area = page.find_element(By.CSS_SELECTOR, "#chart .nsewdrag")
    ActionChains(page).move_to_element(area).click_and_hold().move_by_offset(
        80, 0
    ).release().perform()
    WebDriverWait(page, 10).until(lambda b: b.execute_script(per_second) > 3 * before)
    ActionChains(page).move_to_element(area).double_click().perform()
    WebDriverWait(page, 10).until(lambda b: b.execute_script(per_second) == pytest.approx(before))


def test_the_keyboard_reaches_the_switches(page):
    page.find_element(By.CSS_SELECTOR, '#switch-0-0 input[value="parallel"]').send_keys("\ue014")
    wait_for(page, "serial|cut")


def test_hundreds_of_layers_are_all_drawn(browser, tmp_path):
    dnn = DNN.load("densenet121")
    seconds = np.linspace(1e-7, 1e-2, dnn.n_layers)
    timeline = simulate(dnn, np.arange(dnn.n_layers) % 2, seconds, seconds / 10, 5e7, 5e7)
    file = tmp_path / "large.html"
    file.write_text(timeline_html(dnn, {("parallel", "every other"): timeline}, 5e7), "utf-8")
    browser.get(file.as_uri())
    wait_for(browser, "parallel|every other")
    assert len(timeline.intervals) > 400
    assert len(bars(browser)) == len(timeline.intervals)
    assert min(bar["width"] for bar in bars(browser)) >= 0.99
    assert browser.get_log("browser") == []


def test_many_planners_are_a_list(browser, tmp_path):
    timelines = toy_timelines()
    many = {("parallel", f"planner {k}"): timelines["parallel", "all"] for k in range(6)}
    many["serial", "planner 5"] = timelines["serial", "all"]
    file = tmp_path / "many.html"
    file.write_text(timeline_html(TOY, many, UPLINK_BPS), "utf-8")
    browser.get(file.as_uri())
    wait_for(browser, "parallel|planner 0")
    choose_upload(browser, "serial")  # planner 0 has none: the nearest there is
    wait_for(browser, "serial|planner 5")
    Select(browser.find_element(By.ID, "switch-0-1")).select_by_visible_text("planner 3")
    wait_for(browser, "parallel|planner 3")
    assert browser.get_log("browser") == []
