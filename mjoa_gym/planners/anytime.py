"""Searches that have a plan at any time, and better ones later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mjoa_gym.model.instance import Plan

ALL = 1 << 30
"""A piece of work that is as large as all of it: nobody waits for a plan."""


class Anytime(Protocol):
    """A search that can be stopped."""

    def plan(self) -> Plan:
        """Return the best plan so far; at first, all-local."""

    def steps(self, piece: int = ALL) -> Iterator[None]:
        """Run the search; `plan` may be better whenever this yields.

        Args:
            piece: The work between two yields: the number of UEs for which PBT-DP answers, or for
                which a later search makes a change.
        """


def finished(search: Anytime) -> Plan:
    """Return a search's last plan."""
    for _ in search.steps():
        pass
    return search.plan()
