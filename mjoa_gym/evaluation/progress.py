"""Progress bars on standard error, if it is a terminal and tqdm is installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class NoBar(list[Any]):
    """Replaces a bar that is not shown: a list of the items that it would count."""

    def __enter__(self) -> NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, n: int = 1) -> None:
        """Show nothing."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Show nothing."""


def bar(iterable: Iterable[Any] | None = None, shown: bool | None = None, **options: Any) -> Any:
    """Return a tqdm bar over an iterable, or over `total` steps if that is among the options.

    `shown` says whether to show it; None means only if standard error is a terminal.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return NoBar(iterable or ())
    disable = None if shown is None else not shown
    return tqdm(iterable, disable=disable, mininterval=0.5, **options)
