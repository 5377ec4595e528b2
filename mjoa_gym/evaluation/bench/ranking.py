"""The ranking of submissions, and the tables that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.evaluation.bench.frozen import (
    CORE,
    EQUAL,
    NAME,
    Best,
    Scene,
    best_known,
    cases,
    reference,
    scenes,
)
from mjoa_gym.evaluation.bench.playing import NO_LIMIT, counted, episode_cost, is_late
from mjoa_gym.evaluation.bench.result import (
    BUDGETS,
    DYNAMIC,
    MARK,
    STATIC,
    TRACKS,
    Result,
    keys_of,
)
from mjoa_gym.evaluation.page import Section, page
from mjoa_gym.evaluation.statistics import Estimate, mean_reduction, reduction
from mjoa_gym.evaluation.table import Table, percent, with_captions

SOLVED = 1e-4
"""Maximum relative excess over the best known cost with which a plan solves an instance."""


class Misses(NamedTuple):
    """The numbers of late and of invalid answers."""

    late: int
    invalid: int


class Gaps(NamedTuple):
    """A submission's static track on a budget; each array is (answers,)."""

    best: NDArray[np.float64]  # excess over the best-known cost, as a fraction of it
    bound: NDArray[np.float64]  # likewise over the certified bound
    misses: Misses


class Dynamic(NamedTuple):
    """A submission's dynamic track on a budget."""

    ratio: NDArray[np.float64]  # (episodes,) cost over that of MJOA-MU without a limit
    change: Estimate  # of the mean cost against MJOA-MU's, a mean over scenarios
    misses: Misses


class Standing:
    """The results of a submission."""

    def __init__(
        self, result: Result, best: Mapping[str, Best], where: Sequence[Scene] | None = None
    ) -> None:
        self.result = result
        self._best = best
        self._where = list(scenes().values()) if where is None else where

    @property
    def label(self) -> str:
        """The label, with a mark if the submission is not complete."""
        return self.result.label + (MARK if self.result.partial else "")

    @cached_property
    def static(self) -> dict[str, Gaps]:
        """The static track by budget, for the budgets that have been run."""
        found = {budget: self._gaps(budget) for budget in (*BUDGETS, NO_LIMIT)}
        return {budget: gaps for budget, gaps in found.items() if len(gaps.best)}

    @cached_property
    def dynamic(self) -> dict[str, Dynamic]:
        """The dynamic track by budget, for the budgets that have been run.

        Of each scenario, as many of the first episodes count as every budget and scenario has, and
        at least `CORE`, so that nobody can choose episodes.
        """
        there = [
            [self.result.answer(DYNAMIC, b, (scene.id, str(s))) is not None for s in scene.seeds]
            for b in (*BUDGETS, NO_LIMIT)
            for scene in self._where
        ]
        leading = [[*own, False].index(False) for own in there if any(own)]
        return self._dynamic(max(CORE, min(leading, default=0)))

    @cached_property
    def core(self) -> dict[str, Dynamic]:
        """The part of `dynamic` by which submissions are ranked."""
        return self._dynamic(CORE)

    def _dynamic(self, seeds: int) -> dict[str, Dynamic]:
        found = {budget: self._changes(budget, seeds) for budget in (*BUDGETS, NO_LIMIT)}
        return {budget: one for budget, one in found.items() if one is not None}

    def _gaps(self, budget: str) -> Gaps:
        costs, bests, bounds, rows = [], [], [], []
        for name, case in cases().items():
            answer = self.result.answer(STATIC, budget, (name,))
            if answer is not None:
                local = float(case.instance.local_cost.sum())
                costs.append(counted(answer, local, budget))
                bests.append(self._best[name].cost)
                bounds.append(self._best[name].bound)
                rows.append(answer)
        cost = np.array(costs)
        return Gaps(cost / bests - 1.0, cost / bounds - 1.0, misses_of(rows, budget))

    def _changes(self, budget: str, seeds: int) -> Dynamic | None:
        ratios, reductions, rows = [], [], []
        for scene in self._where:
            pairs = []
            for seed in scene.seeds[:seeds]:
                episode = self.result.answer(DYNAMIC, budget, (scene.id, str(seed)))
                if episode is not None:
                    pairs.append((episode_cost(episode, budget), reference()[scene.id, seed]))
                    rows += episode
            if pairs:
                own, base = np.array(pairs).T
                ratios.append(own / base)
                reductions.append(reduction(own, base))
        if not reductions:
            return None
        change = mean_reduction(reductions).negated
        return Dynamic(np.concatenate(ratios), change, misses_of(rows, budget))

    @cached_property
    def scores(self) -> dict[str, float]:
        """By track, the geometric mean of the costs over the reference's, over all budgets.

        A track that was not run on every budget has no score.
        """
        found: dict[str, float] = {}
        static, dynamic = self.static, self.core
        if set(BUDGETS) <= set(static):
            found[STATIC] = geometric([geometric(1.0 + static[b].best) for b in BUDGETS])
        if set(BUDGETS) <= set(dynamic):
            found[DYNAMIC] = geometric([geometric(dynamic[b].ratio) for b in BUDGETS])
        return found

    @property
    def score(self) -> float:
        """The score by which complete submissions are ranked: less is better; NaN if incomplete."""
        scores = self.scores
        return geometric(list(scores.values())) if len(scores) == len(TRACKS) else float("nan")


def misses_of(rows: Sequence[Mapping[str, float]], budget: str) -> Misses:
    """Count the late and the invalid answers."""
    invalid = sum("invalid" in row for row in rows)
    late = [is_late(r["seconds"], r["reference_s"], budget) for r in rows if "invalid" not in r]
    return Misses(sum(late), invalid)


def misses(result: Result) -> list[str]:
    """Return a line for each track and budget: how many answers are late and invalid."""
    one = Standing(result, best_known())
    found = [(STATIC, b, len(gaps.best), gaps.misses) for b, gaps in one.static.items()]
    found += [(DYNAMIC, b, len(change.ratio), change.misses) for b, change in one.dynamic.items()]
    return [
        f"{track}, {_budget(budget)}{'' if budget == NO_LIMIT else ' ms'}: {number} "
        f"{'instances' if track == STATIC else 'episodes'}, {late} answers late, {invalid} invalid"
        for track, budget, number, (late, invalid) in found
    ]


def geometric(ratios: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log(ratios))))


def ranked(results: Sequence[Result]) -> list[Standing]:
    """Sort submissions, the best first; incomplete ones met other problems, and come last."""
    labels = [result.label for result in results]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"several submissions are called {', '.join(sorted(twice))}")
    best = best_known()
    standings = [Standing(result, best) for result in results]

    def place(one: Standing) -> tuple[float, ...]:
        scores = one.score, *(one.scores.get(track, np.nan) for track in TRACKS)
        # missing scores come last
        return bool(one.result.partial), *(np.nan_to_num(score, nan=np.inf) for score in scores)

    return sorted(standings, key=place)


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the ranking, then each track on every budget, then what the submissions share."""
    standings = ranked(results)
    found = [ranking_table(standings), static_table(standings), dynamic_table(standings)]
    shared = common_scenes(results)
    return [*found, common_table(standings, shared)] if 0 < len(shared) < len(scenes()) else found


def ranking_table(standings: Sequence[Standing]) -> Table:
    """Return the table with one row per submission."""
    rows = []
    for place, one in enumerate(standings, 1):
        scores = [one.score, *(one.scores.get(track, np.nan) for track in TRACKS)]
        static = [_excess(one.static, budget) for budget in BUDGETS]
        dynamic = [_change(one.core, budget) for budget in BUDGETS]
        rank = "" if one.result.partial else f"{place}"
        rows.append((rank, one.label, *map(_ratio, scores), *static, *dynamic))
    header = (
        "Rank", "Submission", "Score", "Static", "Dynamic",
        *(f"Static, {int(b):,} ms" for b in BUDGETS), *(f"Dynamic, {int(b):,} ms" for b in BUDGETS),
    )  # fmt: skip
    notes = [
        f"{one.label}: {one.result.partial}." for one in standings if one.result.partial
    ]  # fmt: skip
    caption = (
        f"{NAME}. Static: the cost over that of the best known plan, a geometric mean over "
        f"{len(cases())} instances. Dynamic: the cost of an episode over that of mjoa-mu without a "
        f"limit, a geometric mean over {len(keys_of(DYNAMIC, CORE))} episodes, the first {CORE} of "
        "each scenario. Score: the geometric mean of both over the four budgets; 1 is as good as "
        "these yardsticks, and less is better. The columns of the budgets have the mean excess, "
        "and the mean change of the cost. Budgets are in milliseconds per decision of the nominal "
        "machine."
    )
    if notes:
        caption += f" {MARK} Not complete, therefore without a rank: " + " ".join(notes)
    return Table(caption, header, rows)


def static_table(standings: Sequence[Standing]) -> Table:
    """Return the table with a row for each submission and budget."""
    rows = []
    for one in standings:
        for budget, (best, bound, misses) in one.static.items():
            spread = (best.min(), np.median(best), best.mean(), best.max(), np.median(bound))
            rows.append(
                (
                    one.label, _budget(budget), *map(_gap, spread),
                    f"{100 * np.mean(best <= SOLVED):.0f} %", str(misses.late), str(misses.invalid),
                    str(len(best)),
                )
            )  # fmt: skip
    header = (
        "Static track", "Budget, ms", "Least gap", "Median", "Mean", "Worst", "Median to the bound",
        "Solved", "Late", "Invalid", "Answers",
    )  # fmt: skip
    caption = (
        "Gap: excess of the cost over that of the best known plan; to the bound: over the "
        f"certified lower bound. Solved: at most {100 * SOLVED:g} % above the best known plan. "
        "Late answers count as all-local, invalid ones as ten times that."
    )
    return Table(caption, header, rows)


def dynamic_table(standings: Sequence[Standing]) -> Table:
    """Return the table with a row for each submission and budget."""
    rows = [
        (
            one.label, _budget(budget), percent(change, "+"), f"{100 * ratio.min() - 100:+.1f} %",
            f"{100 * ratio.max() - 100:+.1f} %", f"{100 * np.mean(ratio < 1.0 - EQUAL):.0f} %",
            str(misses.late), str(misses.invalid), str(len(ratio)),
        )
        for one in standings
        for budget, (ratio, change, misses) in one.dynamic.items()
    ]  # fmt: skip
    header = (
        "Dynamic track", "Budget, ms", "Against mjoa-mu", "Best episode", "Worst episode",
        "Episodes that cost less", "Late rounds", "Invalid rounds", "Episodes",
    )  # fmt: skip
    caption = (
        "Change of the mean cost of an episode against mjoa-mu without a limit on the same "
        "episodes, a mean over the scenarios; in brackets a 95 % bootstrap interval over episodes, "
        "resampled in pairs. Late and invalid rounds are played all-local."
    )
    return Table(caption, header, rows)


def common_scenes(results: Sequence[Result]) -> list[Scene]:
    """Return the scenarios that all submissions of the dynamic track have.

    They have a scenario if they have its ranked episodes on every budget.
    """
    taking_part = [result for result in results if any(result.tracks[DYNAMIC].values())]

    def has(result: Result, scene: Scene) -> bool:
        keys = product(BUDGETS, [(scene.id, str(seed)) for seed in scene.seeds[:CORE]])
        return all(result.answer(DYNAMIC, budget, key) is not None for budget, key in keys)

    return [s for s in scenes().values() if all(has(result, s) for result in taking_part)]


def common_table(standings: Sequence[Standing], shared: Sequence[Scene]) -> Table:
    """Return the changes in the scenarios that all submissions of the dynamic track have."""
    rows = []
    for one in standings:
        within = Standing(one.result, {}, shared).core
        if within:
            rows.append((one.label, *(_change(within, budget) for budget in BUDGETS)))
    header = ("Scenarios of all", *(f"{int(budget):,} ms" for budget in BUDGETS))
    caption = (
        "As in the ranking, but only in the scenarios that all of these submissions have: "
        f"{', '.join(scene.id for scene in shared)}."
    )
    return Table(caption, header, rows)


def markdown(results: Sequence[Result]) -> str:
    """Return the tables as Markdown."""
    return f"# {NAME}\n\n{with_captions(tables(results))}\n"


def html_page(results: Sequence[Result]) -> str:
    """Return the tables as a self-contained page."""
    ranking, *more = tables(results)
    parts = [Section("Ranking", tables=[ranking]), Section("Each track", tables=more)]
    return page(NAME, [part.html() for part in parts])


def _gap(excess: float) -> str:
    return f"{round(100 * excess, 2) + 0.0:,.2f} %"  # no minus before a zero


def _excess(static: Mapping[str, Gaps], budget: str) -> str:
    return f"{100 * static[budget].best.mean():,.1f} %" if budget in static else ""


def _change(dynamic: Mapping[str, Dynamic], budget: str) -> str:
    return (
        f"{round(100 * dynamic[budget].change.value, 1) + 0.0:+,.1f} %" if budget in dynamic else ""
    )


def _ratio(score: float) -> str:
    return "" if np.isnan(score) else f"{score:.4f}"


def _budget(budget: str) -> str:
    return "no limit" if budget == NO_LIMIT else f"{int(budget):,}"
