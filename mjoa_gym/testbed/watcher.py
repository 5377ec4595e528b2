"""A web page that shows live what a server with a controller does: `mjoa-gym testbed watch`.

The watcher asks the server for news four times a second, however many pages are open, and keeps
them in a bounded log. It serves the page on loopback, to those who know its address, which contains
a random key that is not the token. The page loads nothing from elsewhere and cannot change
anything.
"""

from __future__ import annotations

import asyncio
import hmac
import html
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mjoa_gym.rendering.interactive import asset, filled, script_data
from mjoa_gym.rendering.style import LANES, STYLES
from mjoa_gym.testbed.connection import EdgeError, open_connection
from mjoa_gym.testbed.event_log import EventLog
from mjoa_gym.testbed.frames import ALL_USES, Kind, Look
from mjoa_gym.testbed.settings import UESettings

LOOPBACK = "127.0.0.1"
HERE = "mjoa_gym.testbed"
ASK_S = 0.25
RETRY_S = 1.0
SLOW_S = 30.0
"""Seconds that a browser may take to send its request."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src "
    "'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Watcher:
    """Watches a server, and serves the page from a separate thread.

    Use it as `async with Watcher(settings) as watcher`, and call `run`.

    Args:
        settings: The server's address, the token and the certificate.
        page_port: Port of the page, on loopback; 0 for any free one.

    Raises:
        OSError: If the page's port is taken.
    """

    def __init__(self, settings: UESettings, page_port: int = 0) -> None:
        self.settings = settings
        self.key = secrets.token_urlsafe(16)
        self.connected = asyncio.Event()  # set after the server's first answer
        self._lock = threading.Lock()  # pages are served by other threads
        self._connections = 0
        self._log = EventLog()
        self._now: dict[str, Any] = {}
        self._problem = "connecting"
        self._pages = _Pages((LOOPBACK, page_port), self)
        self._thread = threading.Thread(target=self._pages.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """The page's address, for a browser on this machine."""
        return f"http://{LOOPBACK}:{self._pages.server_address[1]}/{self.key}/"

    async def __aenter__(self) -> Watcher:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._pages.shutdown)
        self._pages.server_close()

    async def run(self) -> None:
        """Watch without end.

        If the server is lost later, the page says so, and the watcher connects again when it can.

        Raises:
            EdgeError: If the server cannot be watched at first.
        """
        while True:
            try:
                await self._watch()
            except EdgeError as error:
                if self._connections == 0:
                    raise
                with self._lock:
                    self._problem = str(error)
            await asyncio.sleep(RETRY_S)

    async def _watch(self) -> None:
        """Watch until the connection is lost."""
        connection = await open_connection(self.settings, None)
        with self._lock:
            self._connections += 1
            self._log, self._problem, since = EventLog(), "", 0
        try:
            while True:
                look, patience_s = Look(since), self.settings.stall_s
                answer = await connection.ask(Kind.LOOK, patience_s, header=look)
                since = self._take(answer.payload)
                self.connected.set()
                await asyncio.sleep(ASK_S)
        finally:
            connection.close("closed by the watcher")
            await connection.wait_closed()

    def _take(self, payload: bytes) -> int:
        """Store an answer of the server; return the number of the next event."""
        try:
            said = json.loads(payload)
            with self._lock:
                for event in said.pop("events"):
                    self._log.add(event, key=event.get("joined"))
                    if "left" in event:
                        self._log.drop(event["left"])
                self._now = said
            return int(said.pop("next"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EdgeError("the server's answer cannot be read") from error

    def news(self, connection: int, since: int) -> bytes:
        """Return, as JSON, the events from number `since` on, and the present state.

        If the page knows another connection to the server than the present one, it gets all events.
        """
        with self._lock:
            found = self._log.since(since if connection == self._connections else 0)
            head = self._now | {
                "connection": self._connections, "problem": self._problem, "next": found.next,
            }  # fmt: skip
            return found.below(head)

    def page(self) -> bytes:
        """Return the page as HTML."""
        kinds = [
            {"resource": resource, "what": what, **STYLES[resource, what]._asdict()}
            for resource, what in ALL_USES
        ]
        data = {"kinds": kinds, "lanes": LANES}
        parts = {
            "TITLE": html.escape(f"Testbed on {self.settings.host}:{self.settings.port}"),
            "STYLE": asset("page.css") + asset("watch.css", HERE),
            "DATA": script_data(data),
            "SCRIPT": asset("watch.js", HERE),
        }
        return filled(asset("watch.html", HERE), parts).encode()


class _Pages(ThreadingHTTPServer):
    """Serves a watcher's page."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], watcher: Watcher) -> None:
        self.watcher = watcher
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Serves the page and its news to those who know the key."""

    protocol_version = "HTTP/1.1"
    timeout = SLOW_S
    server: _Pages

    def do_GET(self) -> None:
        """Answer a request."""
        url = urlsplit(self.path)
        key, _, what = url.path.removeprefix("/").partition("/")
        watcher = self.server.watcher
        if not hmac.compare_digest(key.encode(), watcher.key.encode()):
            text = "Use the whole address that `mjoa-gym testbed watch` has printed.\n"
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", text.encode())
        elif what == "":
            self._answer(HTTPStatus.OK, "text/html", watcher.page())
        elif what == "news":
            asked = parse_qs(url.query)
            numbers = [asked.get(name, ["0"])[0] for name in ("connection", "since")]
            if not all(text.isascii() and text.isdecimal() for text in numbers):
                text = "connection and since: whole numbers are needed.\n"
                self._answer(HTTPStatus.BAD_REQUEST, "text/plain", text.encode())
                return
            connection, since = (int(text[:18]) for text in numbers)
            self._answer(HTTPStatus.OK, "application/json", watcher.news(connection, since))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.\n")

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing, because addresses contain the key."""
