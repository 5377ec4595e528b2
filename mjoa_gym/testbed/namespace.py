"""Links shaped by the operating system: a network namespace for the server, and `tc` on both ends.

Needs Linux, root, `ip` and `tc`. Both ends of a virtual Ethernet pair have a token-bucket filter of
a small burst, so that packets, acknowledgements and congestion control are real, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

HOST_ADDRESS = "10.213.57.1"
SERVER_ADDRESS = "10.213.57.2"
PREFIX_LENGTH = 30
BURST_BYTES = 1 << 14
QUEUE_BYTES = 1 << 18


class ShapedNamespace:
    """A namespace that a server can run in; see `shaped_namespace`.

    Attributes:
        name: Its name.
        address: The server's address in it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = SERVER_ADDRESS
        self._here, self._there = f"{name}-a", f"{name}-b"

    @property
    def command(self) -> list[str]:
        """What to put before a command to run it there."""
        return ["ip", "netns", "exec", self.name]

    def shape(self, uplink_bps: float, downlink_bps: float) -> None:
        """Set the rates of both directions.

        Raises:
            OSError: If `tc` refuses.
        """
        self._shape([], self._here, uplink_bps)
        self._shape(self.command, self._there, downlink_bps)

    def open(self) -> None:
        """Make it."""
        _call("ip", "netns", "add", self.name)
        _call("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there,
              "netns", self.name)  # fmt: skip
        _call("ip", "addr", "add", f"{HOST_ADDRESS}/{PREFIX_LENGTH}", "dev", self._here)
        _call("ip", "link", "set", self._here, "up")
        inside = self.command
        address = f"{SERVER_ADDRESS}/{PREFIX_LENGTH}"
        _call(*inside, "ip", "addr", "add", address, "dev", self._there)
        _call(*inside, "ip", "link", "set", self._there, "up")
        _call(*inside, "ip", "link", "set", "lo", "up")

    def close(self) -> None:
        """Remove it, as far as it is there."""
        with contextlib.suppress(OSError):
            _call("ip", "link", "del", self._here)
        with contextlib.suppress(OSError):
            _call("ip", "netns", "del", self.name)

    @staticmethod
    def _shape(inside: list[str], device: str, rate_bps: float) -> None:
        bucket = ["rate", f"{round(rate_bps)}bit", "burst", str(BURST_BYTES)]
        queue = ["limit", str(QUEUE_BYTES)]
        _call(*inside, "tc", "qdisc", "replace", "dev", device, "root", "tbf", *bucket, *queue)


@contextlib.contextmanager
def shaped_namespace() -> Iterator[ShapedNamespace]:
    """A namespace that is removed in the end.

    Raises:
        OSError: If this system or this user cannot have one.
    """
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise OSError(f"network namespaces need root, ip and tc; missing: {missing or 'root'}")
    namespace = ShapedNamespace(f"mjoa{os.getpid() % 100_000}")
    try:
        namespace.open()
        yield namespace
    finally:
        namespace.close()


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
