"""The server's memory. For parameters: layers of all sessions, least recently used ones go first.

A layer occupies its full size from its first byte on. Layers that a running query has reserved are
never dropped; a query whose layers do not fit beside those of the others is refused. Layers that
are to be retained are dropped after all others. For tensors: a sum over all queries, as large as
they can become.

Layers may be shared by content: a session that has said the digests of its layers finds those that
others have uploaded. What arrives belongs to its session until it is complete, since nobody should
have to finish what somebody else has begun wrongly; it is shared if its bytes have that digest, and
then stays until memory is short, whoever leaves.
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
"""An owner and a layer, or `SHARED` and a digest."""
SHARED = "shared"


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
    owner_bytes: float = float("inf")  # most that one session's uploads may take
    _entries: OrderedDict[Key, Incoming] = field(default_factory=OrderedDict)
    _pins: Counter[Key] = field(default_factory=Counter)
    _held: dict[tuple[Owner, int], Key] = field(default_factory=dict)  # what is reserved
    _payers: dict[Key, Owner] = field(default_factory=dict)  # who has uploaded what
    _digests: dict[Owner, Sequence[bytes]] = field(default_factory=dict)
    _retained: dict[Owner, Collection[int]] = field(default_factory=dict)

    def share(self, owner: Owner, digests: Sequence[bytes]) -> None:
        """Let a session share the layers with these digests, (L,); those without stay its own."""
        self._digests[owner] = digests

    def retain(self, owner: Owner, layers: Collection[int]) -> None:
        """Drop these layers of a session after all others, and no others any more."""
        self._retained[owner] = layers

    def get(self, owner: Owner, layer: int) -> Incoming | None:
        """What is here of a layer, in part or complete."""
        return self._entries.get(self._key(owner, layer))

    def received(self, owner: Owner, layer: int) -> int:
        """Bytes of a layer that are here."""
        incoming = self.get(owner, layer)
        return 0 if incoming is None else incoming.received

    def shares(self, owner: Owner, layer: int) -> bool:
        """Whether what is here of a layer is shared."""
        return self._key(owner, layer)[0] == SHARED

    def held_bytes(self) -> Counter[Owner]:
        """What the layers of each session take, and, as `SHARED`, those that are shared."""
        held: Counter[Owner] = Counter()
        for (owner, _), incoming in self._entries.items():
            held[owner] += incoming.layout.total_bytes
        return held

    def reserve(self, owner: Owner, wanted: Iterable[tuple[int, TensorLayout]]) -> bool:
        """Make room for layers and keep them until `release`; all of them or none."""
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
        """Share a reserved layer that is complete, if its session shares it.

        A ProtocolError, and nothing of it is left to be used, if its bytes have another digest.
        """
        key, digest = self._held[owner, layer], self._digest(owner, layer)
        incoming = self._entries[key]
        if key[0] == SHARED or incoming.digest is None:
            return
        if incoming.digest.digest() != digest:
            raise ProtocolError(f"layer {layer}'s parameters do not have the digest that was said")
        shared = (SHARED, digest)
        if shared not in self._entries:  # else its own copy goes when it is released
            self._entries[shared] = self._entries.pop(key)
            self._payers[shared] = self._payers.pop(key)
            self._pins[shared] += self._pins.pop(key)
            self._held[owner, layer] = shared

    def release(self, owner: Owner, layers: Iterable[int]) -> None:
        """Undo `reserve`: the layers stay, as most recently used, until memory is short."""
        for layer in layers:
            key = self._held[owner, layer]
            self._pins[key] -= 1
            self._entries.move_to_end(key)
            if self._pins[key] == 0:
                del self._held[owner, layer]
                if self._entries[key].received == 0 or self._key(owner, layer) != key:
                    self._drop(key)
            elif key[0] == SHARED:  # others hold it, too
                del self._held[owner, layer]

    def forget(self, owner: Owner) -> None:
        """Free everything of a session; what is shared stays."""
        for key in [key for key in self._entries if key[0] == owner]:
            self._drop(key)
        self._digests.pop(owner, None)
        self._retained.pop(owner, None)
        self._payers = {key: payer for key, payer in self._payers.items() if payer != owner}

    def _digest(self, owner: Owner, layer: int) -> bytes:
        digests = self._digests.get(owner, ())
        return digests[layer] if digests else b""

    def _key(self, owner: Owner, layer: int) -> Key:
        """Where a layer is: what its session holds, else what is shared, else its own."""
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
