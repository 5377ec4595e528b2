"""Links that the operating system shapes: a network namespace for one side, `tc` at both ends.

This needs Linux, root, `ip` and `tc`. Both ends of a virtual Ethernet pair have a token-bucket
filter with a small burst, so packets, acknowledgements and congestion control are real. If several
UEs are in the namespace, each has an address of its own, the pair is the only bottleneck, and the
kernel divides it among them (HTB).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

HOST_ADDRESS = "10.213.57.1"
SERVER_ADDRESS = "10.213.57.2"
ADDRESSES = "10.213.57.{}"
FIRST_UE = 10
PREFIX_LENGTH = 24
BURST_BYTES = 1 << 14
QUEUE_BYTES = 1 << 18
LEAST_BPS = 1e5
"""Least rate of a UE in bits per second: without a share it still sends control frames."""


class ShapedNamespace:
    """A namespace in which a process can run, at `address`; made by `shaped_namespace`."""

    address = SERVER_ADDRESS

    def __init__(self, name: str) -> None:
        self.name = name
        self._divided: tuple[int, float] | None = None
        self._ends: list[tuple[list[str], str]] = [([], f"{name}-a"), (self.command, f"{name}-b")]

    @property
    def command(self) -> list[str]:
        """The words to put before a command to run it in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def shape(self, uplink_bps: float, downlink_bps: float) -> None:
        """Set the rates of both directions, in bits per second.

        Raises:
            OSError: If `tc` fails.
        """
        for (inside, device), rate_bps in zip(self._ends, (uplink_bps, downlink_bps), strict=True):
            _call(*inside, "tc", "qdisc", "replace", "dev", device, "root", "tbf",
                  "rate", f"{round(rate_bps)}bit", "burst", str(BURST_BYTES),
                  "limit", str(QUEUE_BYTES))  # fmt: skip

    def divide(self, cell_bps: float, rates: Sequence[tuple[float, float]]) -> None:
        """Divide the pair among the UEs in the namespace; UE k has the address `ue_address(k)`.

        Args:
            cell_bps: Rate of all UEs together, in each direction, in bits per second.
            rates: Each UE's uplink and downlink, in bits per second.

        Raises:
            OSError: If `tc` fails.
        """
        anew = self._divided != (len(rates), cell_bps)
        for up, (inside, device) in enumerate(self._ends):
            key = "src" if up else "dst"  # UEs are inside, where the uplink begins
            classes, rest = [], []
            for k, (uplink_bps, downlink_bps) in enumerate(rates):
                leaf, rate = 16 + k, _rate(max(LEAST_BPS, uplink_bps if up else downlink_bps))
                classes.append(f"class replace dev {device} parent 1:1 classid 1:{leaf:x} {rate}")
                rest += [
                    f"qdisc add dev {device} parent 1:{leaf:x} bfifo limit {QUEUE_BYTES}",
                    f"filter add dev {device} parent 1: protocol ip prio 1 u32 match ip {key} "
                    f"{ue_address(k)}/32 flowid 1:{leaf:x}",
                ]
            if anew:
                with contextlib.suppress(OSError):  # there may be nothing to delete
                    _call(*inside, "tc", "qdisc", "del", "dev", device, "root")
                whole = f"class add dev {device} parent 1: classid 1:1 {_rate(cell_bps)}"
                first = [f"qdisc add dev {device} root handle 1: htb default 1 r2q 1", whole]
                classes = [*first, *classes, *rest]
            _call(*inside, "tc", "-batch", "-", given="\n".join(classes))
        self._divided = len(rates), cell_bps

    def add_ues(self, count: int) -> None:
        """Give the namespace the addresses of the UEs 0 to `count - 1`."""
        for k in range(count):
            place = f"{ue_address(k)}/{PREFIX_LENGTH} dev {self._ends[1][1]}"
            _call(*self.command, "ip", "addr", "add", *place.split())

    def open(self) -> None:
        """Create the namespace and the pair; raise an OSError if `ip` fails."""
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
    """Create a namespace, and remove it at the end.

    Raises:
        OSError: If `ip` or `tc` is missing or fails, or if the user is not root.
    """
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise OSError(f"network namespaces need root, ip and tc; missing: {missing or 'root'}")
    namespace = ShapedNamespace(f"mjoa{os.getpid() % 100_000}")
    try:
        namespace.open()
        yield namespace
    finally:  # even if only a part of it was created
        for thing in (f"link del {namespace.name}-a", f"netns del {namespace.name}"):
            with contextlib.suppress(OSError):
                _call("ip", *thing.split())


def ue_address(number: int) -> str:
    """Return the address of a UE in a namespace; UEs are numbered from 0."""
    return ADDRESSES.format(FIRST_UE + number)


def _rate(bps: float) -> str:
    rate = f"{round(bps)}bit"
    return f"htb rate {rate} ceil {rate} burst {BURST_BYTES} cburst {BURST_BYTES} quantum 1514"


def _call(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
