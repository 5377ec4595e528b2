"""What `mjoa-bench-v1` consists of: instances, scenarios, and what is known of them.

Instances, scenarios and the reference's costs never change; another choice gets another name. Only
the best-known plans improve (`improving`). `hashes.json` tells whether a file is what it was.
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
"""Those that are answered."""
MOST_BYTES = 256 * 2**20
"""Far more than any file of the benchmark needs, unpacked."""

T = TypeVar("T")

EQUAL = 1e-6
"""Costs that differ by less, relatively, are equal: an instance is solved, a plan is no better."""
REPRODUCES = 1e-9
"""How far, relatively, a cost may be from what the simulator says; rounding differs by machine."""
INVALID = 10.0
"""What an invalid answer costs, in units of all-local; and the most that any answer costs."""


class Best(NamedTuple):
    """What is known of an instance.

    Attributes:
        plan: The best plan that is known.
        cost: What it costs, in weighted seconds.
        bound: No plan costs less; certified.
        found_by: Which planner or search has found the plan.
    """

    plan: Plan
    cost: float
    bound: float
    found_by: str

    def to_plain(self) -> Plain:
        """As JSON."""
        return self._asdict() | {"plan": plain_plan(self.plan)}


@dataclass(frozen=True)
class Scene:
    """A frozen scenario of the dynamic track: identifier, scenario, and the episodes' seeds."""

    id: str
    scenario: Scenario
    seeds: range

    @property
    def setting(self) -> Setting:
        """Where its episodes are played."""
        return Setting("streaming", self.scenario)


def evenly(items: Sequence[T], count: int | None) -> list[T]:
    """So many of the items, evenly spread; all of them by default."""
    if count is None or count >= len(items):
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, count).astype(int)]


def pack(content: Any) -> bytes:
    """JSON, compressed; equal content gives equal bytes."""
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 9, mtime=0)


def unpack(data: bytes) -> bytes:
    """What is compressed, or the data itself if nothing is.

    Raises:
        ValueError: If it is cut off, damaged or too large.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    unzip = zlib.decompressobj(wbits=31)
    try:
        content = unzip.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"is damaged: {error}") from error
    if unzip.unconsumed_tail:
        raise ValueError(f"has more than {MOST_BYTES:,} bytes when it is unpacked")
    if not unzip.eof:
        raise ValueError("is cut off: the end of the compressed data is missing")
    return content


def content_of(path: Path) -> Any:
    """The JSON in a file, compressed or not; a ValueError names the file and what is wrong."""
    return files.read(path, lambda data: files.parse_json(unpack(data)))


def hash_of(path: Path) -> str:
    """The SHA-256 of what a file holds, unpacked."""
    return hashlib.sha256(unpack(path.read_bytes())).hexdigest()


@cache
def hashes() -> Mapping[str, str]:
    """By file what its hash must be, as `hashes.json` says it."""
    return content_of(FOLDER / HASHES)


@cache
def identity() -> dict[str, str]:
    """The hashes of what is answered, and what a result thus belongs to."""
    return {name.partition(".")[0]: hashes()[name] for name in ANSWERED}


@cache
def cases() -> dict[str, Case]:
    """The instances of the static track, by their identifiers."""
    return {case.id: case for case in read_cases(content_of(FOLDER / INSTANCES))}


@cache
def scenes() -> dict[str, Scene]:
    """The scenarios of the dynamic track, by their identifiers."""
    return read_scenes(content_of(FOLDER / SCENARIOS))


def read_scenes(content: Mapping[str, Any]) -> dict[str, Scene]:
    """The scenarios of a file's content."""
    return {
        name: Scene(
            name, Scenario.from_dict(one["fields"]), range(one["first_seed"], one["last_seed"] + 1)
        )
        for name, one in content["scenarios"].items()
    }


@cache
def reference() -> dict[tuple[str, int], float]:
    """By scenario and seed what an episode costs with MJOA-MU that takes its time."""
    content = content_of(FOLDER / REFERENCE)["costs"]
    return {
        (scene.id, seed): cost
        for scene in scenes().values()
        for seed, cost in zip(scene.seeds, content[scene.id], strict=True)
    }


def draws_of(scene: Scene) -> str:
    """A hash of a scenario's networks and devices, and of who comes in its episodes.

    To six digits: machines differ in the last ones.
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
    """What is known of every instance, from a file or as packaged."""
    content = content_of(file or FOLDER / BEST)["instances"]
    return {
        name: Best(read_plan(one["plan"]), one["cost"], one["bound"], one["found_by"])
        for name, one in content.items()
    }


def write_best(best: Mapping[str, Best], file: Path) -> None:
    """Write what is known of every instance, and the file's hash beside it."""
    known = {name: one.to_plain() for name, one in sorted(best.items())}
    files.write(file, pack({"benchmark": NAME, "instances": known}))
    write_hashes(file.parent, [file.name])


def write_hashes(folder: Path, names: list[str]) -> None:
    """Note the hashes of some files; the others' stay."""
    path = folder / HASHES
    known = content_of(path) if path.exists() else {}
    known |= {name: hash_of(folder / name) for name in names}
    files.write(path, json.dumps(dict(sorted(known.items())), indent=1) + "\n")
