"""The documentation site: it builds without a warning, leads nowhere wrong, and loads nothing."""

from __future__ import annotations

import ast
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import fields
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mjoa_gym import __version__
from mjoa_gym.cli.main import COMMANDS, parser
from mjoa_gym.planners.registry import PLANNERS
from mjoa_gym.world.scenario import Scenario

for needed in ("mkdocs", "material", "mkdocstrings_handlers.python", "torch", "msgspec"):
    pytest.importorskip(needed, reason="needs the extras `docs` and `testbed`")

ROOT = Path(__file__).resolve().parent.parent
LOADING = {  # attributes that a browser follows without being asked
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src",
    "audio": "src", "embed": "src", "object": "data", "link": "href",
}  # fmt: skip
STILL = {"canonical", "next", "prev", "license", "alternate"}
"""Kinds of <link> that are not loaded."""


class Page(HTMLParser):
    """What a page loads, where it leads, and where one can jump to."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.anchors, self.classes = [], [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADING and LOADING[tag] in given and given.get("rel", "") not in STILL:
            self.loads.append(given[LOADING[tag]])
        assert given.get("data-md-component") != "source"  # would ask the host for its stars


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": paths, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Every page that is made from Markdown."""
    made = (file for file in site.rglob("*.html") if "results/" not in file.as_posix())
    return {file: Page(file.read_text("utf-8")) for file in made}


def page_text(site, name):
    return re.sub(r"<[^>]+>", "", (site / name).read_text("utf-8"))


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site, pages):
    assert len(pages) >= 40
    everything = dict(pages)
    for file in (site / "results").rglob("*.html"):  # reports that are copied
        everything[file] = Page(file.read_text("utf-8"))
    for file, page in everything.items():
        assert "mermaid" not in page.classes  # would be drawn by a script from elsewhere
        for target in page.loads:
            assert not re.match(r"(?:\w+:)?//", target), (file, target)
    for file in site.rglob("*.css"):
        for target in re.findall(r"url\(\s*['\"]?([^)'\"]*)|@import\s+['\"]([^'\"]*)",
                                 file.read_text("utf-8")):  # fmt: skip
            assert not re.match(r"(?:https?:)?//", "".join(target)), (file, target)


@pytest.mark.slow
def test_every_link_within_the_site_leads_somewhere(site, pages):
    checked = 0
    for file, page in pages.items():
        if file.name == "404.html":
            continue
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.exists(), (file.name, link)
            checked += 1
            if parts.fragment and target in pages:
                anchors = pages[target].anchors
                assert unquote(parts.fragment) in anchors | {"__search"}, (file.name, link)
    assert checked > 3000


@pytest.mark.slow
def test_links_into_the_repository_exist(pages):
    host = "https://github.com/mjoa-gym/mjoa-gym/"
    found = {link for page in pages.values() for link in page.links if link.startswith(host)}
    places = [re.match(r"(?:blob|tree)/main/([^#]*)", link[len(host) :]) for link in sorted(found)]
    assert sum(place is not None for place in places) >= 5
    for place in filter(None, places):
        assert (ROOT / place[1]).exists(), place[1]


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(pages):
    """Of every public module, each documented public class, function and method."""
    anchors = set().union(*(page.anchors for page in pages.values()))
    for file in sorted((ROOT / "mjoa_gym").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if "cli" in parts or parts[-1].startswith("_"):
            continue
        for name in documented(ast.parse(file.read_text("utf-8")), ".".join(parts)):
            assert name in anchors, name


def documented(node, prefix):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for one in (one for one in node.body if isinstance(one, kinds)):
        if not one.name.startswith("_") and ast.get_docstring(one):
            yield f"{prefix}.{one.name}"
            if isinstance(one, ast.ClassDef):
                yield from documented(one, f"{prefix}.{one.name}")


@pytest.mark.slow
def test_the_reference_is_complete(site):
    commands = page_text(site, "reference/command-line.html")
    for name in COMMANDS:
        assert f"mjoa-gym {name}" in commands
    for option in ("--budgets-ms", "--uplink-column", "--controller", "--ue-slowdown"):
        assert option in commands
    assert parser().prog == "mjoa-gym"
    scenario = page_text(site, "reference/scenario-fields.html")
    for field in fields(Scenario):
        assert field.name in scenario
    for name in Scenario.names():
        assert name in scenario
    planners = page_text(site, "reference/planners.html")
    for name in PLANNERS:
        assert name in planners
    assert "bandwidth_share" in page_text(site, "reference/environments.html")
    assert __version__ in page_text(site, "changelog.html")


CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SEEN = (
    "index", "quickstart", "tutorials/compare", "model", "glossary", "results", "bench",
    "scenarios", "reference/environments", "reference/command-line", "api/index",
    "api/mjoa_gym.planners",
)  # fmt: skip
FETCHED = "return performance.getEntriesByType('resource').map(e => e.name)"
WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(site))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def show_width(browser, width):
    """A phone's width is less than a window may have, so the browser is told to pretend."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium is missing: make test-browser")
@pytest.mark.parametrize("width", [1300, 390])
def test_pages_fit_the_window_and_ask_nobody_else(browser, address, width):
    from selenium.webdriver.support.ui import WebDriverWait

    show_width(browser, width)
    for name in SEEN:
        browser.get(f"{address}/{name}.html")
        # The browser may note what it has fetched a moment after the page is complete.
        fetched = WebDriverWait(browser, 30).until(lambda b: b.execute_script(FETCHED))
        assert all(url.startswith((address, "data:", "blob:")) for url in fetched), fetched
        assert browser.execute_script(WIDER) <= 0, (name, width)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium is missing: make test-browser")
def test_the_search_works_from_disk(browser, site):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    show_width(browser, 1300)
    browser.get((site / "glossary.html").as_uri())
    field = browser.find_element(By.CSS_SELECTOR, "input.md-search__input")
    browser.execute_script("arguments[0].focus()", field)
    field.send_keys("prefetch")
    WebDriverWait(browser, 30).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__link")
    )
