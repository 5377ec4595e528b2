"""A log of the newest events as JSON texts, in bounded memory, for those who watch.

Events are numbered from 0, so that a reader can ask for the new ones only. An event with a key,
for instance that a UE has registered, stays until its key is dropped. Of the other events, the
oldest are deleted when all of them together are too long.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

MOST_BYTES = 1 << 20
"""Largest size of all events without a key."""
MOST_AT_ONCE_BYTES = 1 << 18
"""Largest size of an excerpt of several events."""


class Excerpt(NamedTuple):
    """Consecutive events.

    Attributes:
        texts: The events, as JSON.
        next: Number of the event that follows them.
        lost: At most how many of the events that were asked for are deleted.
    """

    texts: list[str]
    next: int
    lost: int

    def below(self, head: Mapping[str, Any]) -> bytes:
        """Return the JSON of an object that has the entries of `head` and then the events."""
        text = json.dumps(head, separators=(",", ":"))
        return f'{text[:-1]},"events":[{",".join(self.texts)}]}}'.encode()


class EventLog:
    """Holds the events. One thread at a time may use it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.next = 0  # the number of the next event
        self._recent: deque[tuple[int, str]] = deque()
        self._standing: dict[Hashable, tuple[int, str]] = {}
        self._bytes = 0
        self._gone = 0  # events before this number are deleted, except those with a key

    def add(self, event: Mapping[str, Any], key: Hashable = None) -> None:
        """Add an event; one with a key replaces the last one with that key."""
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
        """Delete the event with a key, if there is one."""
        self._standing.pop(key, None)

    def since(self, first: int, most_bytes: int = MOST_AT_ONCE_BYTES) -> Excerpt:
        """Return the events from number `first` on, in order.

        If they are longer than `most_bytes`, the excerpt ends earlier, after at least one event.
        """
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
