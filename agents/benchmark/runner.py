"""Run the cells of a suite that are not done yet, in several processes, with progress."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

from tqdm import tqdm

from agents.benchmark.episode import play, warm_up
from agents.benchmark.store import Row, Store
from agents.benchmark.suite import Cell, Suite

QUEUED = 4
"""Cells handed out ahead per process."""


class CellError(RuntimeError):
    """A cell failed; its name and reason are the message."""


def run(suite: Suite, store: Store, processes: int = 2, progress: bool = True) -> None:
    """Play all cells that the store lacks, and put them there.

    Args:
        suite: What to run.
        store: Where results go; every finished cell is kept, whatever happens later.
        processes: How many cells to play at a time; with 1, in this process.
        progress: Whether to show a bar.

    Raises:
        CellError: If a cell fails; those done stay in the store.
    """
    cells = list(suite.cells())
    missing = [cell for cell in cells if cell not in store.rows]
    if processes > 1:
        _compile_once(suite, missing, progress)
    bar = tqdm(
        total=len(cells),
        initial=len(cells) - len(missing),
        unit="cell",
        mininterval=0.5,
        disable=not progress,
    )
    with bar:
        results = _serially if processes == 1 else _in_processes
        for cell, rows in results(suite, missing, processes):
            store.add(cell, rows)
            bar.set_postfix_str(f"{cell.sweep} {cell.planner}", refresh=False)
            bar.update()


def _compile_once(suite: Suite, cells: list[Cell], progress: bool) -> None:
    """Compile the planners here, so that the other processes find them in Numba's cache."""
    needed = {(suite.sweep(cell.sweep).environment, cell.planner): cell.world for cell in cells}
    jobs = tqdm(needed.items(), desc="compiling", unit="planner", disable=not progress)
    for (environment, planner), world in jobs:
        warm_up(environment, planner, world)


def _serially(suite: Suite, cells: list[Cell], processes: int) -> Iterator[tuple[Cell, list[Row]]]:
    for cell in cells:
        yield cell, _play(suite, cell)


def _in_processes(
    suite: Suite, cells: list[Cell], processes: int
) -> Iterator[tuple[Cell, list[Row]]]:
    """Fresh processes (not forks: numeric libraries have threads) that end with this one."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, end_with_parent, (os.getpid(),)) as pool:
        waiting = iter(cells)
        running: dict[Future[list[Row]], Cell] = {}
        try:
            while True:
                for cell in islice(waiting, processes * QUEUED - len(running)):
                    running[pool.submit(_play, suite, cell)] = cell
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _play(suite: Suite, cell: Cell) -> list[Row]:
    try:
        return play(suite.sweep(cell.sweep), cell)
    except Exception as error:
        raise CellError(f"{cell.key}: {type(error).__name__}: {error}") from error


def end_with_parent(parent: int) -> None:
    """Let this process end soon after its parent, even if that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
