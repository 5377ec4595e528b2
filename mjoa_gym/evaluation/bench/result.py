"""A submission's file with the answers of a planner or agent, which you can score again.

`docs/bench.md` describes the schema. Reading checks every field; `checking` finds out whether the
answers match their claims.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mjoa_gym import files
from mjoa_gym.evaluation.bench.frozen import (
    CORE,
    NAME,
    cases,
    content_of,
    identity,
    pack,
    parsed,
    scenes,
)
from mjoa_gym.evaluation.bench.instances import Plain, read_plan
from mjoa_gym.evaluation.bench.playing import NO_LIMIT, is_late
from mjoa_gym.evaluation.user_code import one_line
from mjoa_gym.validation import choice, mapping, number, short

SCHEMA = "mjoa-gym/bench-result/1"
BUDGETS = ("1", "10", "100", "1000")
"""The ranked budgets, in milliseconds per decision."""
STATIC, DYNAMIC = TRACKS = ("static", "dynamic")
FIELDS = (
    "schema", "benchmark", "label", "planner", "takes_budget", "made", "covers", *TRACKS,
    "checksum",
)  # fmt: skip
ANSWER = {"seconds": True, "reference_s": True, "plan": False, "cost": False, "invalid": False}
ROUND = {**ANSWER, "plan": True, "cost": True, "local": True}
"""The fields of an answer and of a round, and whether they are required."""

MARK = "*"
"""Mark at the label of an incomplete submission in tables."""
LEAST_S, MOST_S = 5e-5, 0.1
"""The plausible seconds of the reference kernel: 20 times as fast as the nominal machine, to 100
times as slow."""

Key = tuple[str, ...]
"""Identifies an answer: (instance,), or (scenario, seed)."""


@dataclass(frozen=True)
class Result:
    """A submission.

    Attributes:
        label: Its name in tables.
        planner: Its name on the command line.
        takes_budget: Whether the planner gets the budget. If not, its answers without a budget
            count for all budgets, and late ones count as all-local.
        made: The machine, the versions and the date.
        tracks: The answers by track, budget ("1" ... or "none", in milliseconds) and `Key`: one row
            each for the static track, and a list of rows for the dynamic track.
    """

    label: str
    planner: str
    takes_budget: bool
    made: Mapping[str, str]
    tracks: Mapping[str, Mapping[str, Mapping[Key, Any]]]

    def answer(self, track: str, budget: str, key: Key) -> Any:
        """Return the answer that counts on a budget; None if there is none."""
        own = self.tracks[track].get(budget, {}).get(key)
        if own is not None or self.takes_budget:
            return own
        free = self.tracks[track].get(NO_LIMIT, {}).get(key)
        if free is None or track == STATIC:
            return free
        # rounds depend on each other: a late decision would have changed the later rounds
        late = any(is_late(row["seconds"], row["reference_s"], budget) for row in free)
        return None if late else free

    def lacks(self, track: str, budget: str, seeds: int | None = None) -> int:
        """Return how many of a track's answers are missing (see `keys_of`)."""
        return sum(self.answer(track, budget, key) is None for key in keys_of(track, seeds))

    @property
    def partial(self) -> str:
        """A description of what is missing for a rank; "" if nothing is."""
        parts = []
        for track in TRACKS:
            count = len(keys_of(track, CORE))
            there = {count - self.lacks(track, budget, CORE) for budget in BUDGETS}
            if there != {count}:
                low, high = min(there), max(there)
                some = f"{low}" if low == high else f"{low} to {high}"
                parts.append(f"{track}: {some} of {count}")
        return "; ".join(parts)

    def to_plain(self) -> Plain:
        """Return the submission as JSON, with a checksum."""
        static, dynamic = (
            {budget: _nested(answers) for budget, answers in self.tracks[track].items()}
            for track in TRACKS
        )
        plain = {
            "schema": SCHEMA, "benchmark": {"name": NAME, **identity()}, "label": self.label,
            "planner": self.planner, "takes_budget": self.takes_budget, "made": dict(self.made),
            "covers": covers(self.tracks), STATIC: static, DYNAMIC: dynamic,
        }  # fmt: skip
        return plain | {"checksum": checksum_of(plain)}

    def write(self, path: Path) -> None:
        """Write the file; compressed if its name ends in .gz.

        Raises:
            ValueError: If the file could not be read again; nothing is written then.
        """
        plain = self.to_plain()
        packed = path.suffix == ".gz"
        content = pack(plain) if packed else f"{json.dumps(plain, indent=1)}\n".encode()
        result_of(parsed(content))
        files.write(path, content)


def keys_of(track: str, seeds: int | None = None) -> list[Key]:
    """Return the keys of a track's answers.

    If `seeds` is given, the dynamic track has only the first `seeds` episodes of each scenario.
    """
    if track == STATIC:
        return [(name,) for name in cases()]
    return [(scene.id, str(seed)) for scene in scenes().values() for seed in scene.seeds[:seeds]]


def covers(tracks: Mapping[str, Mapping[str, Mapping[Key, Any]]]) -> Plain:
    """Return the number of answers by track and budget."""
    return {
        track: {budget: len(rows) for budget, rows in tracks[track].items()} for track in TRACKS
    }


def checksum_of(plain: Mapping[str, Any]) -> str:
    """Return the checksum of a file's content without the checksum itself."""
    rest = {key: value for key, value in plain.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_result(path: Path) -> Result:
    """Read a submission from its file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the content is invalid; names the file, the field and what is allowed.
    """
    content = content_of(path)
    try:
        return result_of(content)
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(str(error))}") from error


def result_of(content: Any) -> Result:
    """Make a submission from a file's content; a ValueError says what is wrong with it."""
    content = mapping("the result", content)
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema={short(content.get('schema'))}: this version reads {SCHEMA!r}")
    _check_keys("the result", content, dict.fromkeys(FIELDS, True))
    if content["checksum"] != checksum_of(content):
        raise ValueError("checksum: the content has changed since it was written")
    _check_benchmark(mapping("benchmark", content["benchmark"]))
    check_names(content["label"], content["planner"])
    if not isinstance(content["takes_budget"], bool):
        raise ValueError(f"takes_budget={short(content['takes_budget'])}: must be true or false")
    made = mapping("made", content["made"])
    for name, value in made.items():
        if not isinstance(value, str):
            raise ValueError(f"made.{name}={short(value)}: must be a text")
    tracks = {track: dict(_budgets(track, content[track])) for track in TRACKS}
    given, counted = (json.dumps(c, sort_keys=True) for c in (content["covers"], covers(tracks)))
    if given != counted:  # as texts, because 1 == True == 1.0
        raise ValueError(f"covers: says {short(given)}, but there are {counted}")
    if not any(answers for budgets in tracks.values() for answers in budgets.values()):
        raise ValueError("the result has no answers")
    return Result(content["label"], content["planner"], content["takes_budget"], made, tracks)


def check_names(label: Any, planner: Any) -> None:
    """Raise a ValueError unless a submission may have this label and planner."""
    for name, text in (("label", label), ("planner", planner)):
        if not isinstance(text, str) or not 0 < len(text) <= 200 or not text.isprintable():
            raise ValueError(
                f"{name}={short(text)}: must be a text of 1 to 200 printable characters"
            )
    odd = set(label) & set("|<`") or label != label.strip() or label.endswith(MARK)
    if odd or label in (".", ".."):
        raise ValueError(
            f"label={short(label)}: must not have | < or `, end in {MARK}, begin or end with a "
            "blank, or be . or .. (LABEL=AGENT gives another one)"
        )


def check_reference(name: str, seconds: float) -> None:
    """Raise a ValueError unless the reference kernel may have taken these seconds."""
    if not LEAST_S <= seconds <= MOST_S:
        raise ValueError(f"{name}={short(seconds)}: must be {LEAST_S:g} to {MOST_S:g} s")


def _check_benchmark(given: Mapping[str, Any]) -> None:
    _check_keys("benchmark", given, dict.fromkeys(("name", *identity()), False))
    if given.get("name") != NAME:
        raise ValueError(f"benchmark.name={short(given.get('name'))}: this version has {NAME!r}")
    for name, own in identity().items():
        if given.get(name) != own:
            raise ValueError(
                f"benchmark.{name}={short(given.get(name))}: differs from the {name} of {NAME} "
                f"({own[:12]}...): the result is stale; run it again"
            )


def _budgets(track: str, content: Any) -> Iterator[tuple[str, dict[Key, Any]]]:
    known = dict.fromkeys(keys_of(track))
    for budget, answers in mapping(track, content).items():
        where = f"{track}.{choice('budget', budget, (*BUDGETS, NO_LIMIT))}"
        flat: dict[Key, Any] = {}
        for name, answer in mapping(where, answers).items():
            if track == STATIC:
                flat[(name,)] = answer
            else:
                episodes = mapping(f"{where}.{name}", answer)
                flat |= {(name, seed): rows for seed, rows in episodes.items()}
        for key, answer in flat.items():
            at = ".".join((where, *key))
            if key not in known:
                raise ValueError(
                    f"{at}: there is no such {'instance' if key[1:] == () else 'episode'}"
                )
            _check_answer(at, answer, track)
        yield budget, flat


def _check_answer(at: str, answer: Any, track: str) -> None:
    if track == STATIC:
        _check_row(at, answer, ANSWER)
        if ("invalid" in answer) == ("plan" in answer) or ("plan" in answer) != ("cost" in answer):
            raise ValueError(f"{at}: must have plan and cost, or else invalid")
    elif not isinstance(answer, list) or not answer:
        raise ValueError(f"{at}={short(answer)}: must be a list of rounds")
    else:
        for k, row in enumerate(answer):
            _check_row(f"{at}[{k}]", row, ROUND)


def _check_row(at: str, row: Any, fields: Mapping[str, bool]) -> None:
    row = mapping(at, row)
    _check_keys(at, row, fields)
    for name in ("seconds", "reference_s", "cost", "local"):
        if name in row and number(f"{at}.{name}", row[name]) <= 0:
            raise ValueError(f"{at}.{name}={short(row[name])}: must be above 0")
    check_reference(f"{at}.reference_s", row["reference_s"])
    if "invalid" in row and not (isinstance(row["invalid"], str) and row["invalid"]):
        raise ValueError(f"{at}.invalid={short(row['invalid'])}: must be a text")
    if "plan" in row:
        try:
            read_plan(row["plan"])
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from error


def _check_keys(where: str, given: Mapping[str, Any], fields: Mapping[str, bool]) -> None:
    for name, needed in fields.items():
        if needed and name not in given:
            raise ValueError(f"{where} has no {name!r}")
    for name in given:
        choice(f"a field of {where}", name, tuple(fields))


def _nested(answers: Mapping[Key, Any]) -> Plain:
    """Return the answers by instance, or by scenario and seed."""
    nested: Plain = {}
    for key, answer in answers.items():
        if len(key) == 1:
            nested[key[0]] = answer
        else:
            nested.setdefault(key[0], {})[key[1]] = answer
    return nested
