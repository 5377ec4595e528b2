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
    """A namespace that a server can run in, at `address`; see `shaped_namespace`."""

    address = SERVER_ADDRESS

    def __init__(self, name: str) -> None:
        self.name = name
        self._ends: list[tuple[list[str], str]] = [([], f"{name}-a"), (self.command, f"{name}-b")]

    @property
    def command(self) -> list[str]:
        """What to put before a command to run it there."""
        return ["ip", "netns", "exec", self.name]

    def shape(self, uplink_bps: float, downlink_bps: float) -> None:
        """Set the rates of both directions; an OSError if `tc` refuses."""
        for (inside, device), rate_bps in zip(self._ends, (uplink_bps, downlink_bps), strict=True):
            _call(*inside, "tc", "qdisc", "replace", "dev", device, "root", "tbf",
                  "rate", f"{round(rate_bps)}bit", "burst", str(BURST_BYTES),
                  "limit", str(QUEUE_BYTES))  # fmt: skip

    def open(self) -> None:
        """Make it."""
        (_, here), (_, there) = self._ends
        veth = f"ip link add {here} type veth peer name {there} netns {self.name}"
        _call("ip", "netns", "add", self.name)
        _call(*veth.split())
        for (inside, device), address in zip(self._ends, (HOST_ADDRESS, self.address), strict=True):
            _call(*inside, "ip", "addr", "add", f"{address}/{PREFIX_LENGTH}", "dev", device)
            _call(*inside, "ip", "link", "set", device, "up")
        _call(*self.command, "ip", "link", "set", "lo", "up")


@contextlib.contextmanager
def shaped_namespace() -> Iterator[ShapedNamespace]:
    """A namespace that is removed in the end; an OSError if this user cannot have one."""
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise OSError(f"network namespaces need root, ip and tc; missing: {missing or 'root'}")
    namespace = ShapedNamespace(f"mjoa{os.getpid() % 100_000}")
    try:
        namespace.open()
        yield namespace
    finally:  # as far as it is there
        for thing in (f"link del {namespace.name}-a", f"netns del {namespace.name}"):
            with contextlib.suppress(OSError):
                _call("ip", *thing.split())


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
