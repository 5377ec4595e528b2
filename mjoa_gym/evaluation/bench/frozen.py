"""The content of `mjoa-bench-v1`: instances, scenarios, and what is known about them.

Instances, scenarios and the reference's costs never change; a new choice gets a new name. Only the
best-known plans improve (`improving`). `hashes.json` shows whether a file has changed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import files
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.bench.instances import Case, Plain, plain_plan, read_cases, read_plan
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.model.instance import Plan
from mjoa_gym.planners.trivial import local_only
from mjoa_gym.world.scenario import Scenario

NAME = "mjoa-bench-v1"
FOLDER = Path(__file__).parent / "v1"
INSTANCES, SCENARIOS, REFERENCE = "instances.json.gz", "scenarios.json", "reference.json.gz"
BEST, HASHES = "best.json.gz", "hashes.json"
FROZEN = (INSTANCES, SCENARIOS, REFERENCE)
"""The files that never change."""
ANSWERED = FROZEN[:2]
"""The files whose problems are answered."""
MOST_BYTES = 64 * 2**20
"""Maximum size of a file, packed or not; all 500 episodes on all budgets need half of it."""

T = TypeVar("T")

EQUAL = 1e-6
"""Relative difference below which costs are equal: the instance is solved, a plan is no better."""
REPRODUCES = 1e-9
"""Maximum relative difference of a cost from the simulator's; rounding differs by machine."""
CORE = 5
"""The number of episodes of each scenario by which submissions are ranked: the first ones."""
INVALID = 10.0
"""Cost of an invalid answer in units of all-local, which is also the maximum of any answer."""


class Best(NamedTuple):
    """What is known about an instance.

    Attributes:
        plan: The best known plan.
        cost: Its cost in weighted seconds.
        bound: Certified lower bound: no plan costs less.
        found_by: The planner or search that found the plan.
    """

    plan: Plan
    cost: float
    bound: float
    found_by: str

    def to_plain(self) -> Plain:
        """Return the entry as JSON."""
        return self._asdict() | {"plan": plain_plan(self.plan)}


@dataclass(frozen=True)
class Scene:
    """A frozen scenario of the dynamic track: identifier, scenario, and the episodes' seeds."""

    id: str
    scenario: Scenario
    seeds: range

    @property
    def setting(self) -> Setting:
        """The setting of its episodes."""
        return Setting("streaming", self.scenario)


def evenly(items: Sequence[T], count: int | None) -> list[T]:
    """Return `count` of the items, evenly spread; all of them by default."""
    if count is None or count >= len(items):
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, count).astype(int)]


def pack(content: Any) -> bytes:
    """Return compressed JSON; equal content gives equal bytes."""
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 9, mtime=0)


def unpack(data: bytes) -> bytes:
    """Return the uncompressed data; data that is not compressed is returned as it is.

    Raises:
        ValueError: If the data is cut off, damaged or too large, or not all of it is compressed.
    """
    if data[:2] != b"\x1f\x8b":
        if len(data) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES:,} bytes")
        return data
    unzip = zlib.decompressobj(wbits=31)
    try:
        content = unzip.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"is damaged: {error}") from error
    if unzip.unconsumed_tail:
        raise ValueError(f"has more than {MOST_BYTES:,} bytes when unpacked")
    if not unzip.eof:
        raise ValueError("is cut off: the end of the compressed data is missing")
    if unzip.unused_data:
        raise ValueError("has more data after the end of the compressed data")
    return content


def parsed(data: bytes) -> Any:
    """Return the JSON in a file's data, compressed or not."""
    return files.parse_json(unpack(data))


def content_of(path: Path) -> Any:
    """Return the JSON in a file, compressed or not; a ValueError names the file and the fault."""
    return files.read(path, parsed, MOST_BYTES)


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file's unpacked content."""
    return hashlib.sha256(unpack(path.read_bytes())).hexdigest()


@cache
def hashes() -> Mapping[str, str]:
    """Return the required hash of each file, from `hashes.json`."""
    return content_of(FOLDER / HASHES)


@cache
def identity() -> dict[str, str]:
    """Return the hashes of the answered files, which identify the problems of a result."""
    return {name.partition(".")[0]: hashes()[name] for name in ANSWERED}


@cache
def cases() -> dict[str, Case]:
    """Return the instances of the static track by identifier."""
    return {case.id: case for case in read_cases(content_of(FOLDER / INSTANCES))}


@cache
def scenes() -> dict[str, Scene]:
    """Return the scenarios of the dynamic track by identifier."""
    return read_scenes(content_of(FOLDER / SCENARIOS))


def read_scenes(content: Mapping[str, Any]) -> dict[str, Scene]:
    """Return the scenarios of a file's content."""
    return {
        name: Scene(
            name, Scenario.from_dict(one["fields"]), range(one["first_seed"], one["last_seed"] + 1)
        )
        for name, one in content["scenarios"].items()
    }


@cache
def reference() -> dict[tuple[str, int], float]:
    """Return the cost of each episode with MJOA-MU without a time limit, by scenario and seed."""
    content = content_of(FOLDER / REFERENCE)["costs"]
    return {
        (scene.id, seed): cost
        for scene in scenes().values()
        for seed, cost in zip(scene.seeds, content[scene.id], strict=True)
    }


def draws_of(scene: Scene) -> str:
    """Return a hash of a scenario's networks and devices, and of the UEs in its episodes.

    Numbers are rounded to six digits, because machines differ in the last ones.
    """
    count = len(scene.seeds)
    agent = PlannerAgent(local_only, scene.scenario)
    envs = scene.setting.environments(agent, count)
    envs.reset(seed=list(scene.seeds))  # type: ignore[arg-type]
    core = envs.unwrapped.core  # type: ignore[attr-defined]
    shape = core.view.shape
    stay = {"placements": np.zeros((count, *shape), np.int8)}
    stay |= {name: np.zeros((count, shape[0])) for name in ("bandwidth_share", "compute_share")}
    stay |= dict.fromkeys(core.view.marks, stay["placements"])
    sums = hashlib.sha256()

    def add(values: NDArray[Any]) -> None:
        sums.update(" ".join(f"{value:.6g}" for value in values.ravel()).encode())

    tables = scene.scenario.tables
    for values in (tables.ue_s, tables.edge_s, tables.output_bytes, tables.parameter_bytes):
        add(values)
    for _ in range(scene.scenario.rounds):
        people = core.batch.state.population
        shown = (people.dnn, people.device, people.speed, people.weight, people.up, people.down,
                 people.message_s, people.deadline_s)  # fmt: skip
        for values in shown:
            add(values)
        envs.step(stay)
    return sums.hexdigest()


def best_known(file: Path | None = None) -> dict[str, Best]:
    """Read what is known about every instance, from a file or the package.

    Raises:
        ValueError: If it is another file.
    """
    file = file or FOLDER / BEST
    content = content_of(file)
    known = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(known, dict) or set(known) != set(cases()):
        raise ValueError(f"{file}: does not have the best-known plans of {NAME}")
    return {
        name: Best(read_plan(one["plan"]), one["cost"], one["bound"], one["found_by"])
        for name, one in known.items()
    }


def write_best(best: Mapping[str, Best], file: Path) -> None:
    """Write what is known about every instance, and the file's hash next to it."""
    known = {name: one.to_plain() for name, one in sorted(best.items())}
    files.write(file, pack({"benchmark": NAME, "instances": known}))
    write_hashes(file.parent, [file.name])


def write_hashes(folder: Path, names: list[str]) -> None:
    """Update the hashes of some files, and keep the others."""
    path = folder / HASHES
    known = content_of(path) if path.exists() else {}
    known |= {name: hash_of(folder / name) for name in names}
    files.write(path, json.dumps(dict(sorted(known.items())), indent=1) + "\n")
