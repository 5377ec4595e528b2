"""The server's memory for parameters and for tensors.

**Parameters**: the memory holds layers of all sessions, and drops the least recently used ones
first. A layer takes its full size from its first byte on. Layers that a running query has reserved
are never dropped. If a query's layers do not fit beside those that are reserved, the query is
refused. Layers to retain are dropped after all others.

**Sharing**: a session that has registered the digests of its layers finds the layers with these
digests that other sessions have uploaded. A layer belongs to its session until it is complete, so
that no session has to continue the wrong upload of another one. If the bytes of a complete layer
have its digest, the layer is shared, and stays until memory is short, even if its session ends.

**Tensors**: the memory counts the tensors of all running queries, each query with the largest size
that its tensors can have together.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from mjoa_gym.testbed.codec import Incoming, TensorLayout
from mjoa_gym.testbed.frames import ProtocolError

Owner = Hashable
Key = tuple[Hashable, Hashable]
"""A session and a layer, or `SHARED` and a digest."""
SHARED = "shared"


class Refusal(Exception):
    """The server refuses this query, but accepts others; the message says why."""


@dataclass
class TensorMemory:
    """Counts the bytes of the tensors of all running queries, and limits them."""

    capacity_bytes: int
    query_bytes: int  # largest size for one query
    used_bytes: int = 0

    def take(self, size: int) -> None:
        """Take the bytes that a query's tensors need.

        Raises:
            Refusal: If they are too many for one query, or for all together.
        """
        if size > self.query_bytes:
            raise Refusal(f"its tensors have {size} bytes; at most {self.query_bytes} are allowed")
        if self.used_bytes + size > self.capacity_bytes:
            raise Refusal("no memory for its tensors beside those of others")
        self.used_bytes += size

    def give_back(self, size: int) -> None:
        """Give back the bytes that `take` took."""
        self.used_bytes -= size


@dataclass
class ParameterStore:
    """Holds the parameters of all sessions. Sizes are those of safetensors images.

    It belongs to the event loop, but any thread may read complete layers.
    """

    capacity_bytes: int
    dropped: int = 0  # number of layers dropped so far to make room
    used_bytes: int = 0
    owner_bytes: float = float("inf")  # largest size of one session's uploads
    _entries: OrderedDict[Key, Incoming] = field(default_factory=OrderedDict)
    _pins: Counter[Key] = field(default_factory=Counter)
    _held: dict[tuple[Owner, int], Key] = field(default_factory=dict)  # of reserved layers
    _payers: dict[Key, Owner] = field(default_factory=dict)  # the session that uploaded an entry
    _digests: dict[Owner, Sequence[bytes]] = field(default_factory=dict)
    _retained: dict[Owner, Collection[int]] = field(default_factory=dict)

    def share(self, owner: Owner, digests: Sequence[bytes]) -> None:
        """Let a session share its layers by (L,) digests. Layers with an empty one stay its own."""
        self._digests[owner] = digests

    def retain(self, owner: Owner, layers: Collection[int]) -> None:
        """Set the layers of a session that are dropped last, in place of those set before."""
        self._retained[owner] = layers

    def get(self, owner: Owner, layer: int) -> Incoming | None:
        """Return the layer's entry, complete or not, or None without one."""
        return self._entries.get(self._key(owner, layer))

    def received(self, owner: Owner, layer: int) -> int:
        """Return how many bytes of a layer are here."""
        incoming = self.get(owner, layer)
        return 0 if incoming is None else incoming.received

    def shares(self, owner: Owner, layer: int) -> bool:
        """Return whether a layer that is here is shared."""
        return self._key(owner, layer)[0] == SHARED

    def held_bytes(self) -> Counter[Owner]:
        """Return the bytes of each session's layers, and, as `SHARED`, those of shared layers."""
        held: Counter[Owner] = Counter()
        for (owner, _), incoming in self._entries.items():
            held[owner] += incoming.layout.total_bytes
        return held

    def reserve(self, owner: Owner, wanted: Iterable[tuple[int, TensorLayout]]) -> bool:
        """Reserve room for all of these layers until `release`; return False if that fails."""
        wanted = list(wanted)
        keys = {layer: self._key(owner, layer) for layer, _ in wanted}
        new = sum(layout.total_bytes for n, layout in wanted if keys[n] not in self._entries)
        if not self._make_room(new, set(keys.values()), owner):
            return False
        for layer, layout in wanted:
            key = keys[layer]
            if key not in self._entries:
                digest = hashlib.sha256() if self._digest(owner, layer) else None
                what = f"layer {layer}'s parameters"
                self._entries[key] = Incoming(what, layout, digest=digest)
                self._payers[key] = owner
                self.used_bytes += layout.total_bytes
            self._pins[key] += 1
            self._held[owner, layer] = key
        return True

    def publish(self, owner: Owner, layer: int) -> None:
        """Share a reserved layer that is complete, if its session shares layers.

        Raises:
            ProtocolError: If its bytes do not have the registered digest. The layer is not shared.
        """
        key, digest = self._held[owner, layer], self._digest(owner, layer)
        incoming = self._entries[key]
        if key[0] == SHARED or incoming.digest is None:
            return
        if incoming.digest.digest() != digest:
            raise ProtocolError(f"layer {layer}'s parameters do not have the registered digest")
        shared = (SHARED, digest)
        if shared not in self._entries:  # else `release` drops this second copy
            self._entries[shared] = self._entries.pop(key)
            self._payers[shared] = self._payers.pop(key)
            self._pins[shared] += self._pins.pop(key)
            self._held[owner, layer] = shared

    def release(self, owner: Owner, layers: Iterable[int]) -> None:
        """End a reservation. The layers stay, as most recently used, until memory is short."""
        for layer in layers:
            key = self._held[owner, layer]
            self._pins[key] -= 1
            self._entries.move_to_end(key)
            if self._pins[key] == 0:
                del self._held[owner, layer]
                if self._entries[key].received == 0 or self._key(owner, layer) != key:
                    self._drop(key)
            elif key[0] == SHARED:  # other queries have reserved it too
                del self._held[owner, layer]

    def forget(self, owner: Owner) -> None:
        """Delete everything of a session, except what is shared."""
        for key in [key for key in self._entries if key[0] == owner]:
            self._drop(key)
        self._digests.pop(owner, None)
        self._retained.pop(owner, None)
        self._payers = {key: payer for key, payer in self._payers.items() if payer != owner}

    def _digest(self, owner: Owner, layer: int) -> bytes:
        digests = self._digests.get(owner, ())
        return digests[layer] if digests else b""

    def _key(self, owner: Owner, layer: int) -> Key:
        """Return a layer's key: the reserved entry, else a shared entry, else the session's own."""
        if (held := self._held.get((owner, layer))) is not None:
            return held
        shared = (SHARED, self._digest(owner, layer))
        return shared if shared in self._entries else (owner, layer)

    def _make_room(self, size: int, keep: Collection[Key], owner: Owner) -> bool:
        retained = {self._key(o, n) for o, layers in self._retained.items() for n in layers}
        free = [k for k in self._entries if self._pins[k] == 0 and k not in keep]
        free.sort(key=lambda key: key in retained)
        sizes = {key: self._entries[key].layout.total_bytes for key in free}
        own = [key for key in free if self._payers.get(key) == owner]
        paid = sum(
            self._entries[key].layout.total_bytes
            for key, payer in self._payers.items()
            if payer == owner
        )
        victims: list[Key] = []
        for candidates, excess in (
            (own, paid + size - self.owner_bytes),
            (free, self.used_bytes + size - self.capacity_bytes),
        ):
            excess -= sum(sizes[key] for key in victims) if candidates is free else 0
            for key in candidates:
                if excess <= 0:
                    break
                if key not in victims:
                    victims.append(key)
                    excess -= sizes[key]
            if excess > 0:
                return False
        for key in victims:
            self._drop(key)
            self.dropped += 1
        return True

    def _drop(self, key: Key) -> None:
        self.used_bytes -= self._entries.pop(key).layout.total_bytes
        self._payers.pop(key, None)
        del self._pins[key]
