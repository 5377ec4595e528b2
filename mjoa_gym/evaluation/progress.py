"""Progress bars on standard error, where somebody looks and tqdm is installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class NoBar(list[Any]):
    """What stands in for a bar where there is none: what it would count, and nothing is shown."""

    def __enter__(self) -> NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, n: int = 1) -> None:
        """Show nothing."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Show nothing."""


def bar(iterable: Iterable[Any] = (), shown: bool | None = None, **options: Any) -> Any:
    """A bar of tqdm's over an iterable, or over `total` steps if that is among the options.

    It is shown, or not; None is for wherever standard error is a terminal.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return NoBar(iterable)
    disable = None if shown is None else not shown
    return tqdm(iterable or None, disable=disable, mininterval=0.5, **options)
