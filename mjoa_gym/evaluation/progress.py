"""Progress bars on standard error, where somebody looks and tqdm is installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class NoBar:
    """What stands in for a bar where there is none."""

    def __init__(self, iterable: Iterable[Any] = ()) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def __enter__(self) -> NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, n: int = 1) -> None:
        """Show nothing."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Show nothing."""


def bar(iterable: Iterable[Any] = (), shown: bool | None = None, **options: Any) -> Any:
    """A bar of tqdm's.

    Args:
        iterable: What it counts; else `total` is needed among the options, and `update`.
        shown: Whether there is one; None for wherever standard error is a terminal.
        **options: tqdm's.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return NoBar(iterable)
    disable = None if shown is None else not shown
    return tqdm(iterable or None, disable=disable, mininterval=0.5, **options)
