"""The content of a benchmark: sweeps over settings, read from a YAML file, and their cells.

A sweep's *point* is an environment and a scenario that differs from the default in the suite's and
the sweep's fields. A *world* is an upload mode. A *cell* is one planner at one point, in one world,
with one seed. The same seed means the same UEs for every planner, world and point.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from mjoa_gym.dnn import DNN
from mjoa_gym.evaluation.agent_source import LOWER_BOUND, AgentSource, source_of
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, Setting
from mjoa_gym.evaluation.journal import EpisodeStore, Row, digest
from mjoa_gym.evaluation.processes import Failure, Job, Playing, play_missing
from mjoa_gym.files import yaml_mapping
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.validation import choice, count, positive
from mjoa_gym.world.scenario import Scenario

SUITES = resources.files("mjoa_gym.evaluation") / "suites"
SHARED = ("planners", "worlds", "seeds", "rounds", "environment", "scenario", "ours")
"""Fields of sweeps that a suite may set, for all sweeps that do not set them."""
SHOWN = "about", "brought", "title", "label", "phrase", "planners", "effects"
"""Fields that change the report, but not what is played in a cell."""
LINES = "sweep", "condition", "energy", "deadlines"
"""Kinds of sweeps with a line per planner."""
KINDS_OF_SWEEPS = *LINES, "ablation", "optimum", "budgets"
"""Kinds of sweeps: lines over a quantity; lines over a quantity that the headline leaves out,
because it changes the world and not only its size; latency against energy; met deadlines; bars;
gaps to the lower bound; and gaps by planning time."""


class Point(NamedTuple):
    """One value of a swept quantity: its label, its place on the axis, and the fields it sets."""

    label: str
    x: float
    changes: dict[str, Any]


class Effect(NamedTuple):
    """A step from one point of a sweep to another, and its name in the report's opening."""

    what: str
    base: str
    point: str


class Cell(NamedTuple):
    """One planner in one setting with one seed."""

    sweep: str
    point: str
    world: str
    planner: str
    seed: int


@dataclass(frozen=True)
class Sweep:
    """One swept quantity.

    The headline's mean includes `typical` sweeps, not those that were chosen because they are
    favourable.
    """

    name: str
    title: str  # for headings
    label: str  # for the axis
    phrase: str  # describes a point in a sentence, "a band of {} MHz"; default: label and point
    points: tuple[Point, ...]
    planners: tuple[str, ...]
    ours: str  # the planner whose reductions are reported; default the suite's
    seeds: int  # episodes per planner, point and world
    rounds: int
    scenario: dict[str, Any]  # as for `Scenario.from_dict`, without the points' fields
    kind: str = "sweep"  # (lines), or another of KINDS_OF_SWEEPS
    environment: str = "cold-start"
    worlds: tuple[str, ...] = ("parallel",)
    typical: bool = True
    budgets_ms: tuple[float, ...] = ()  # planning times that are allowed, for "budgets"
    effects: tuple[Effect, ...] = ()  # compared with each other in the report's opening

    def __post_init__(self) -> None:
        choice(f"{self.name}: kind", self.kind, KINDS_OF_SWEEPS)
        choice(f"{self.name}: environment", self.environment, tuple(ENVIRONMENTS))
        for world in self.worlds:
            choice(f"{self.name}: worlds", world, UPLOAD_MODES)
        for field in ("seeds", "rounds"):
            count(f"{self.name}: {field}", getattr(self, field))
        for field in ("points", "worlds", "planners"):
            if not getattr(self, field):
                raise ValueError(f"{self.name}: {field} is empty")
        if self.kind == "budgets":
            self._check_budgets()
        labels = [point.label for point in self.points]
        if len(set(labels)) != len(labels):
            raise ValueError(f"{self.name}: two points have the same label in {labels}")
        for effect in self.effects:
            for point in (effect.base, effect.point):
                choice(f"{self.name}: effects: point", point, labels)
        if self.environment == "streaming" and LOWER_BOUND in self.planners:
            raise ValueError(f"{self.name}: the lower bound is known only for cold-start")
        for label in labels:
            self.setting_at(label, self.worlds[0])  # raises if it is invalid

    def _check_budgets(self) -> None:
        if not self.budgets_ms:
            raise ValueError(f"{self.name}: budgets_ms is empty")
        for budget_ms in self.budgets_ms:
            positive(f"{self.name}: budgets_ms", budget_ms)
        if (self.environment, self.rounds, self.worlds) != ("cold-start", 1, ("parallel",)):
            raise ValueError(f"{self.name}: budgets are for cold starts of one round, in parallel")
        if LOWER_BOUND in self.planners:
            raise ValueError(f"{self.name}: the lower bound has no plan")

    def setting_at(self, point: str, world: str) -> Setting:
        """Return the setting at one point in one world."""
        changes = next(p.changes for p in self.points if p.label == point)
        own = {"rounds": self.rounds, **self.scenario, **changes, "upload": world}
        scenario = Scenario.from_dict({"name": f"{self.name}: {point}", **own})
        return Setting(self.environment, scenario)

    def at(self, point: str) -> str:
        """Return a description of a point for use in a sentence."""
        number = point.replace(".", "", 1).isdigit()
        return self.phrase.format(f"{float(point):.3g}" if number else point)

    @property
    def middle(self) -> str:
        """The label of the point in the middle."""
        return self.points[len(self.points) // 2].label


@dataclass(frozen=True)
class Suite:
    """A benchmark; the folder of its results has its name."""

    name: str
    about: str
    ours: str  # the planner whose reductions are reported
    reference: str  # the planner that offloads nothing
    earlier: tuple[str, ...]  # the earlier systems; ours is compared with the strongest
    first_seed: int  # seeds are this, this + 1, ...; training uses smaller ones
    sweeps: tuple[Sweep, ...]
    timed_ues: tuple[int, ...] = (1, 2, 5, 10, 20)  # numbers of UEs that plans are timed for
    timed_dnns: tuple[str, ...] = DNN.names()  # networks that PBT-DP is timed for
    brought: tuple[AgentSource, ...] = ()  # planners besides the sweeps' (see `with_planners`)

    def __post_init__(self) -> None:
        if not self.sweeps:
            raise ValueError("sweeps is empty")
        for sweep in self.sweeps:
            for planner in sweep.planners:
                self.source(planner)
            if missing := {sweep.ours, self.reference} - set(sweep.planners):
                raise ValueError(f"{sweep.name}: planners lacks {sorted(missing)}")

    @property
    def compared(self) -> tuple[Sweep, ...]:
        """The sweeps of the headline: cold starts over a swept quantity."""
        return tuple(s for s in self.sweeps if (s.kind, s.environment) == ("sweep", "cold-start"))

    def sweep(self, name: str) -> Sweep:
        """Return the sweep with this name."""
        return next(sweep for sweep in self.sweeps if sweep.name == name)

    def source(self, planner: str) -> AgentSource:
        """Return the source of a sweep's planner."""
        found = (source for source in self.brought if source.label == planner)
        return next(found, None) or source_of(planner)

    def with_planners(self, texts: Sequence[str]) -> Suite:
        """Return the suite with more planners, or agents, in every sweep (see `source_of`)."""
        brought = [source_of(text) for text in texts]
        labels = [source.label for source in brought]
        for sweep in self.sweeps:
            for label in labels:
                if [*sweep.planners, *labels].count(label) > 1:
                    raise ValueError(f"planners: {label!r} is in {sweep.name} already")
        sweeps = tuple(replace(s, planners=(*s.planners, *labels)) for s in self.sweeps)
        return replace(self, sweeps=sweeps, brought=(*self.brought, *brought))

    @property
    def fingerprint(self) -> str:
        """A digest of everything that is played, without the planners and the wording."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in SHOWN}
        content["sweeps"] = [
            {name: value for name, value in asdict(sweep).items() if name not in SHOWN}
            for sweep in self.sweeps
        ]
        return digest(json.dumps(content, sort_keys=True, default=str).encode())

    def cells(self) -> Iterator[Cell]:
        """Yield all cells; those of one setting and seed follow each other."""
        for s in self.sweeps:
            for point in s.points:
                seeds = range(self.first_seed, self.first_seed + s.seeds)
                for seed, world, planner in product(seeds, s.worlds, s.planners):
                    if planner != LOWER_BOUND or world == "parallel":
                        yield Cell(s.name, point.label, world, planner, seed)


def run_suite(suite: Suite, store: EpisodeStore, how: Playing) -> list[Failure]:
    """Play all cells that a store lacks, and add them to it; return the planners that failed."""
    setting = cache(lambda sweep, point, world: suite.sweep(sweep).setting_at(point, world))
    source = cache(suite.source)
    jobs = (
        Job(source(cell.planner), setting(*cell[:3]), {cell.seed: key})
        for cell, key in keys_of(suite).items()
    )
    return play_missing(jobs, store, how._replace(together=1), "cell")


def keys_of(suite: Suite) -> dict[Cell, tuple[Any, ...]]:
    """Return all cells, and the keys of their results."""
    version = cache(lambda planner: suite.source(planner).version)
    return {cell: (*cell, version(cell.planner)) for cell in suite.cells()}


def played_cells(suite: Suite, store: EpisodeStore) -> dict[Cell, list[Row]]:
    """Return the cells that a store has."""
    return {c: store.rows[key] for c, key in keys_of(suite).items() if key in store.rows}


def suite_names() -> tuple[str, ...]:
    """Return the names of the packaged suites."""
    return tuple(sorted(f.name[:-5] for f in SUITES.iterdir() if f.name.endswith(".yaml")))


def load_suite(name_or_path: str | Path) -> Suite:
    """Read and check a packaged suite, or one from a file (a path ending in .yaml or .yml).

    Top-level `planners`, `worlds`, `seeds`, `rounds`, `environment` and `scenario` apply to every
    sweep that does not set them (a sweep's `scenario` adds to the suite's). A sweep's `phrase`
    describes a point in a sentence, with `{}` for its label. Its `effects`, a list of
    `{what: ..., base: ..., point: ...}`, compare points, by their labels, in the report's opening.

    Raises:
        ValueError: If a field is invalid; names the field, its value and what is allowed.
        OSError: If the file cannot be read.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        text = path.read_text("utf-8")
    else:
        name = choice("suite", str(name_or_path), suite_names(), " or a .yaml file")
        text = (SUITES / f"{name}.yaml").read_text("utf-8")
    return suite_from(yaml_mapping(text, path), str(path))


def suite_from(content: Mapping[str, Any], where: str = "suite") -> Suite:
    """Make a suite from the content of its file (see `load_suite`)."""
    names = [f.name for f in fields(Suite) if f.name != "brought"]
    _check_keys(where, content, [*names, *SHARED])
    shared = {key: content[key] for key in SHARED if key in content}
    given = content.get("sweeps") or {}
    own = {name: content[name] for name in names if name in content}
    own["sweeps"] = [_sweep(str(name), sweep, shared) for name, sweep in given.items()]
    return _made(where, Suite, own)


def _sweep(name: str, given: Mapping[str, Any], shared: Mapping[str, Any]) -> Sweep:
    where, axis = f"sweep {name}", ("fields", "values", "scale")
    _check_keys(where, given, [*(f.name for f in fields(Sweep)), *axis])
    own = {"name": name, "title": name, "label": name, **shared, **given}
    own.setdefault("phrase", f"{own['label']}: {{}}")
    own["scenario"] = {**shared.get("scenario", {}), **given.get("scenario", {})}
    own["points"] = _points(where, given)
    own["effects"] = tuple(_effect(where, effect) for effect in given.get("effects", ()))
    return _made(where, Sweep, {k: v for k, v in own.items() if k not in axis})


def _points(where: str, given: Mapping[str, Any]) -> tuple[Point, ...]:
    """Make points from `fields`, `values` and `scale` (numbers), or `points` (label: changes)."""
    if ("values" in given) == ("points" in given):
        raise ValueError(f"{where}: needs either `fields` and `values`, or `points`")
    if "points" in given:
        labelled = enumerate(given["points"].items())
        return tuple(Point(str(label), float(x), dict(to or {})) for x, (label, to) in labelled)
    scale = float(given.get("scale", 1.0))
    return tuple(
        Point(f"{value * scale:g}", value * scale, dict.fromkeys(given["fields"], value))
        for value in given["values"]
    )


def _effect(where: str, given: Mapping[str, Any]) -> Effect:
    _check_keys(f"{where}: effects", given, Effect._fields)
    if missing := set(Effect._fields) - set(given):
        raise ValueError(f"{where}: effects: {given} lacks {sorted(missing)}")
    return Effect(**{name: str(text) for name, text in given.items()})


def _check_keys(where: str, given: Any, allowed: Sequence[str]) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: must hold `field: value` lines")
    for key in given:
        choice(f"{where}: field", str(key), allowed)


def _made(where: str, kind: type[Any], given: Mapping[str, Any]) -> Any:
    """Make an object from its given fields; lists become tuples."""
    for field in fields(kind):
        if field.name not in given and field.default is MISSING:
            raise ValueError(f"{where}: field {field.name!r} is missing")
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
