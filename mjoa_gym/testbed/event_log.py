"""Events for those who watch: the newest ones, as texts of JSON, in bounded memory.

Events have numbers, from 0, so that somebody who comes again is told only what is new. An event
with a key, such as that of a UE that has come, stays until that key is dropped; of all others the
oldest go when there are too many bytes of them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

MOST_BYTES = 1 << 20
"""Of all events without a key."""
MOST_AT_ONCE_BYTES = 1 << 18
"""Of an excerpt, if it is more than one event."""


class Excerpt(NamedTuple):
    """Some events: their texts, the number of the next one, how many before it are gone."""

    texts: list[str]
    next: int
    lost: int

    def below(self, head: Mapping[str, Any]) -> bytes:
        """Return the JSON of an object with the events in addition to what is in `head`."""
        text = json.dumps(head, separators=(",", ":"))
        return f'{text[:-1]},"events":[{",".join(self.texts)}]}}'.encode()


class EventLog:
    """The events; belongs to one thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.next = 0  # the number of the next event
        self._recent: deque[tuple[int, str]] = deque()
        self._standing: dict[Hashable, tuple[int, str]] = {}
        self._bytes = 0
        self._gone = 0  # events before this number are gone, but for those with a key

    def add(self, event: Mapping[str, Any], key: Hashable = None) -> None:
        """Note an event; one with a key takes the place of the last one with that key."""
        entry = (self.next, json.dumps(event, separators=(",", ":")))
        self.next += 1
        if key is not None:
            self._standing[key] = entry
            return
        self._recent.append(entry)
        self._bytes += len(entry[1])
        while self._bytes > self.most_bytes:
            number, text = self._recent.popleft()
            self._bytes -= len(text)
            self._gone = number + 1

    def drop(self, key: Hashable) -> None:
        """Forget the event with a key, if there is one."""
        self._standing.pop(key, None)

    def since(self, first: int, most_bytes: int = MOST_AT_ONCE_BYTES) -> Excerpt:
        """The events from a number on, in order; more of them next time if they are too long."""
        found = [entry for entry in self._standing.values() if entry[0] >= first]
        for entry in reversed(self._recent):
            if entry[0] < first:
                break
            found.append(entry)
        found.sort()
        texts: list[str] = []
        for number, text in found:
            most_bytes -= len(text)
            if most_bytes < 0 and texts:
                return Excerpt(texts, number, max(0, self._gone - first))
            texts.append(text)
        return Excerpt(texts, self.next, max(0, self._gone - first))
