"""The page of those who watch, in a real browser: lanes, shares, memory, plans; all offline."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")
pytest.importorskip("selenium")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from mjoa_gym.testbed.frames import ALL_USES  # noqa: E402
from mjoa_gym.testbed.settings import UESettings  # noqa: E402
from mjoa_gym.testbed.watcher import Watcher  # noqa: E402

from .test_interactive_browser import CHROMIUM, DRIVER, browser  # noqa: E402, F401
from .test_testbed_watch import latest, some_at_the_edge, watching  # noqa: E402
from .testbed_helpers import TOKEN, run, until  # noqa: E402
from .testbed_network import diamond  # noqa: E402
from .testbed_rounds import controlled, participant, take_part  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium is missing: make test-browser"),
]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def told():
    """What a real server has told after two rounds of two UEs, as a watcher hears it."""
    network, said = diamond(), []

    async def main():
        settings = {"first": 2, "period_s": 0.3}
        async with controlled(some_at_the_edge, network, **settings) as (server, _):  # noqa: SIM117
            async with (
                watching(server.port),
                participant(server.port, network, weight=2.0) as a,
                participant(server.port, network) as b,
            ):
                await asyncio.gather(*(take_part(m, network, 2) for m in (a, b)))
                await until(lambda: b'"over":2' in server.live.look(0))
                await asyncio.sleep(0.6)  # the memory's state is so old at most
                said.append(server.live.look(0))

    run(main())
    return json.loads(said[0])


@pytest.fixture
def page(browser, told):  # noqa: F811
    """The page, freshly opened; what it logs and fetches is checked at the test's end."""
    watcher = Watcher(UESettings(TOKEN, 1))
    watcher._thread.start()
    watcher._connections, watcher._problem = 1, ""
    watcher._take(json.dumps(told).encode())
    try:
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(watcher.address)
        browser.watcher = watcher
        browser.execute_script("document.querySelector('input[value=\"60\"]').click()")
        wait_for(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "rect.use"))
        yield browser
        assert [entry["message"] for entry in browser.get_log("browser")] == []
        entries = browser.get_log("performance")
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        fetched = {
            message["params"]["request"]["url"].partition("?")[0]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }
        own = {watcher.address, f"{watcher.address}news", "data:,"}
        assert fetched <= own
    finally:
        browser.get("about:blank")
        watcher._pages.shutdown()
        watcher._pages.server_close()


def wait_for(driver, condition):
    return WebDriverWait(driver, 20, 0.05).until(condition)


def texts(driver, selector):
    """Of all elements at a time: a moment later they are drawn anew."""
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((found) => found.innerText)",
        selector,
    )


def test_every_use_is_a_bar_in_its_lane(page, told):
    page.find_element(By.ID, "pause").click()
    for ue in (1, 2):
        bars = page.execute_script(
            """return [...document.querySelectorAll(arguments[0])].map((bar) => [
                 Number(bar.dataset.kind), Number(bar.dataset.layer), bar.y.baseVal.value,
                 bar.x.baseVal.value, bar.width.baseVal.value, bar.textContent])""",
            f"#ue-{ue} rect.use",
        )
        uses = [use for number in (1, 2) for use in latest(told["events"], ue, number)]
        assert sorted(bar[:2] for bar in bars) == sorted(list(use[:2]) for use in uses)
        rows = {}
        for kind, _layer, y, _x, width, _title in bars:
            rows.setdefault(ALL_USES[kind][0], set()).add(y)
            assert width >= 1
        assert [len(rows[lane]) for lane in ("ue", "uplink", "edge", "downlink")] == [1] * 4
        heights = [min(rows[lane]) for lane in ("ue", "uplink", "edge", "downlink")]
        assert heights == sorted(heights)
        # where they lie is when they were: seconds between bars are pixels between them
        starts = sorted(use[2] for use in uses)
        lefts = sorted(bar[3] for bar in bars)
        scale = (lefts[-1] - lefts[0]) / (starts[-1] - starts[0])
        expected = [(start - starts[0]) * scale for start in starts]
        assert [left - lefts[0] for left in lefts] == pytest.approx(expected, abs=0.5)
        begun = [event["at"] for event in told["events"] if "planned" in event]
        lines = page.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((l) => l.x1.baseVal.value)",
            f"#ue-{ue} line.begins",
        )
        assert [line - lefts[0] for line in sorted(lines)] == pytest.approx(
            [(at - starts[0]) * scale for at in begun], abs=0.5
        )
        assert any(re.search(r"UE executes: \d \(layer \d\), \d", bar[5]) for bar in bars)
        assert any("the network's input" in bar[5] for bar in bars)
    assert len(page.find_elements(By.CSS_SELECTOR, "line.planned")) == 4
    assert len(page.find_elements(By.CSS_SELECTOR, "line.measured")) == 4


def test_shares_memory_and_plans_are_told(page, told):
    assert texts(page, "#band span") == ["UE 1 50 %", "UE 2 50 %"]
    assert texts(page, "#compute span") == ["UE 1 50 %", "UE 2 50 %"]
    used = told["memory"]["used_bytes"]
    assert texts(page, "#memory-text")[0].startswith(f"{used / 1e3:.0f} kB of 4.29 GB used")
    signs = page.execute_script(
        "return [...document.querySelectorAll('#ue-1 rect.cell')].map((c) => c.dataset.sign)"
    )
    assert "".join(signs) == told["memory"]["ues"]["1"][1] == "###-#.#"
    rows = [row.split() for row in texts(page, "#rounds tbody tr")]
    assert [row[0] for row in rows] == ["2", "1"]
    weights = {e["joined"]: e["weight"] for e in told["events"] if "joined" in e}
    over = next(e for e in told["events"] if e.get("over") == 2)
    measured = sum(weights[u] * s for u, s in zip(over["ues"], over["measured_s"], strict=True))
    assert f"{measured:.3f}" in rows[0]
    assert len(page.find_elements(By.CSS_SELECTOR, "#plans figure")) == 2
    assert len(page.find_elements(By.CSS_SELECTOR, "#plans circle.result")) == 4
    assert any("UE 2 has registered: toy" in line for line in texts(page, "#log li"))
    assert "plans for 2 UEs; a cell of 40 Mbit/s each way; round 2" in texts(page, "#subtitle")[0]


def test_what_comes_later_is_drawn_and_a_lost_server_is_said(page, told):
    watcher, (event, *_) = page.watcher, [e for e in told["events"] if "joined" in e]
    later = told | {"events": [event | {"joined": 3, "model": HOSTILE, "layers": [HOSTILE] * 7}]}
    watcher._take(json.dumps(later).encode())
    wait_for(page, lambda b: b.find_elements(By.ID, "ue-3"))
    assert HOSTILE in texts(page, "#ue-3 strong")[0]  # shown as it is, and never run
    assert page.find_elements(By.TAG_NAME, "img") == []
    watcher._take(json.dumps(told | {"events": [{"left": 3, "why": "tired", "at": 1}]}).encode())
    wait_for(page, lambda b: any("UE 3 has left: tired" in line for line in texts(b, "#log li")))
    assert not page.find_element(By.ID, "problem").is_displayed()
    watcher._problem = "no connection"
    wait_for(page, lambda b: b.find_element(By.ID, "problem").is_displayed())
    assert "cannot be watched: no connection" in texts(page, "#problem")[0]
    watcher._problem, watcher._connections = "", 2  # another server: nothing is known of it
    watcher._log = type(watcher._log)()
    wait_for(page, lambda b: not b.find_elements(By.CSS_SELECTOR, ".ue"))
    assert "No UE has registered yet." in texts(page, "#ues")[0]


def test_it_can_be_paused_and_shown_from_further_back(page):
    moving = "return document.querySelector('g.moving').getAttribute('transform')"
    before = page.execute_script(moving)
    wait_for(page, lambda b: b.execute_script(moving) != before)
    page.find_element(By.ID, "pause").click()
    page.execute_async_script(  # the frame that is on its way
        "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    )
    stopped = page.execute_script(moving)
    page.execute_async_script("setTimeout(arguments[0], 600)")
    assert page.execute_script(moving) == stopped
    page.find_element(By.ID, "pause").click()
    wait_for(page, lambda b: b.execute_script(moving) != stopped)
    pixels = "return Number(document.querySelector('g.moving').dataset.scale)"  # per second
    far = page.execute_script(pixels)
    page.execute_script("document.querySelector('input[value=\"5\"]').click()")
    assert page.execute_script(pixels) == pytest.approx(12 * far)


@pytest.mark.parametrize("width", [390, 620, 1300])
def test_everything_fits_into_a_window(page, width):
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        wait_for(page, lambda b: b.execute_script("return innerWidth") == width)
        page.execute_async_script("setTimeout(arguments[0], 400)")
        overflow = "return document.documentElement.scrollWidth - window.innerWidth"
        assert page.execute_script(overflow) <= 0
        box = "return document.querySelector('#ue-1 svg').getBoundingClientRect().width"
        assert page.execute_script(box) > 0.9 * min(width, 1200) - 30
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
