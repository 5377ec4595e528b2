"""The server's memory. For parameters: layers of all sessions, least recently used ones go first.

A layer occupies its full size from its first byte on. Layers that a running query has reserved are
never dropped; a query whose layers do not fit beside those of the others is refused. For tensors: a
sum over all queries, as large as they can become.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from mjoa_gym.testbed.codec import Incoming, TensorLayout

Owner = Hashable


class Refusal(Exception):
    """The server will not do a query, but others; the message says why."""


@dataclass
class TensorMemory:
    """What the tensors of all running queries may take."""

    capacity_bytes: int
    query_bytes: int  # of one query
    used_bytes: int = 0

    def take(self, size: int) -> None:
        """Take what a query's tensors need; a Refusal if that is too much."""
        if size > self.query_bytes:
            raise Refusal(f"tensors of {size} bytes; {self.query_bytes} are allowed")
        if self.used_bytes + size > self.capacity_bytes:
            raise Refusal("no memory for its tensors beside those of others")
        self.used_bytes += size

    def give_back(self, size: int) -> None:
        """Undo `take`."""
        self.used_bytes -= size


@dataclass
class ParameterStore:
    """Parameters of all sessions. Belongs to the event loop; complete layers may be read anywhere.

    Sizes are those of safetensors images.
    """

    capacity_bytes: int
    dropped: int = 0  # layers, for want of memory, so far
    used_bytes: int = 0
    _entries: OrderedDict[tuple[Owner, int], Incoming] = field(default_factory=OrderedDict)
    _pins: Counter[tuple[Owner, int]] = field(default_factory=Counter)

    def get(self, owner: Owner, layer: int) -> Incoming | None:
        """What is here of a layer, in part or complete."""
        return self._entries.get((owner, layer))

    def received(self, owner: Owner, layer: int) -> int:
        """Bytes of a layer that are here."""
        incoming = self.get(owner, layer)
        return 0 if incoming is None else incoming.received

    def reserve(self, owner: Owner, wanted: Iterable[tuple[int, TensorLayout]]) -> bool:
        """Make room for layers and keep them until `release`; all of them or none."""
        wanted = list(wanted)
        keys = {(owner, layer) for layer, _ in wanted}
        new = sum(layout.total_bytes for n, layout in wanted if (owner, n) not in self._entries)
        if not self._make_room(new, keys):
            return False
        for layer, layout in wanted:
            key = (owner, layer)
            if key not in self._entries:
                self._entries[key] = Incoming(f"layer {layer}'s parameters", layout)
                self.used_bytes += layout.total_bytes
            self._pins[key] += 1
        return True

    def release(self, owner: Owner, layers: Iterable[int]) -> None:
        """Undo `reserve`: the layers stay, as most recently used, until memory is short."""
        for layer in layers:
            key = (owner, layer)
            self._pins[key] -= 1
            self._entries.move_to_end(key)
            if self._pins[key] == 0 and self._entries[key].received == 0:
                self._drop(key)

    def forget(self, owner: Owner) -> None:
        """Free everything of a session."""
        for key in [key for key in self._entries if key[0] == owner]:
            self._drop(key)

    def _make_room(self, size: int, keep: set[tuple[Owner, int]]) -> bool:
        free = self.capacity_bytes - self.used_bytes
        victims = []
        for key, incoming in self._entries.items():
            if free >= size:
                break
            if self._pins[key] == 0 and key not in keep:
                victims.append(key)
                free += incoming.layout.total_bytes
        if free < size:
            return False
        for key in victims:
            self._drop(key)
            self.dropped += 1
        return True

    def _drop(self, key: tuple[Owner, int]) -> None:
        self.used_bytes -= self._entries.pop(key).layout.total_bytes
        del self._pins[key]
