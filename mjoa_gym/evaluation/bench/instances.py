"""Instances and plans as JSON, which are equal to the last bit after writing and reading.

Networks of the catalogue are written by name, with a digest that shows whether they have changed.
Other networks are written in full. A UE's seconds per layer are a table divided by a factor, so
that UEs with the same network and device share a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.devices import Power
from mjoa_gym.devices.power import POWER_FIELDS
from mjoa_gym.dnn import DNN
from mjoa_gym.dnn.profile import BITS
from mjoa_gym.model.instance import UE, Instance, Plan
from mjoa_gym.validation import mapping, number, short

SCHEMA = "mjoa-gym/bench-instances/1"
PRICES = ("message_s", "energy_price_s_per_j", "miss_price_s")
SNRS, RATES = ("snr_up", "snr_down"), ("uplink_bps", "downlink_bps")
AMOUNTS = ("flops", "parameter_bytes", "output_bytes")
NEAR = range(-2, 3)
"""Number of floats around a quotient that are tried to find the original factor."""

Plain = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A frozen instance: its identifier, its group, and the instance."""

    id: str
    group: str
    instance: Instance


class Writer:
    """Collects instances; `content` is the content to write.

    Args:
        tables: Arrays of seconds per layer. UEs' seconds that are not a quotient of one of them are
            written in full.
    """

    def __init__(self, tables: Iterable[NDArray[np.float64]] = ()) -> None:
        self._networks: dict[str, tuple[int, Plain]] = {}
        self._tables: dict[bytes, tuple[int, NDArray[np.float64]]] = {}
        self._powers: dict[tuple[float, ...], int] = {}
        self._offered: dict[int, dict[bytes, NDArray[np.float64]]] = {}
        for table in tables:
            self._offered.setdefault(len(table), {})[table.tobytes()] = table
        self._instances: list[Plain] = []

    def add(self, case: Case) -> None:
        """Collect a case; raise a ValueError if a part of it cannot be written."""
        instance = case.instance
        if instance.horizon is not None or any(ue.resident.any() for ue in instance.ues):
            raise ValueError(f"{case.id}: something is resident, or stays: must be a cold start")
        self._instances.append(
            {
                "id": case.id, "group": case.group, "upload": instance.upload,
                "bandwidth_hz": instance.bandwidth_hz,
                **{name: getattr(instance, name) for name in PRICES if getattr(instance, name)},
                "ues": [self._ue(ue) for ue in instance.ues],
            }
        )  # fmt: skip

    def content(self) -> Plain:
        """Return everything that has been added."""
        return {
            "schema": SCHEMA,
            "networks": [network for _, network in self._networks.values()],
            "seconds": [table.tolist() for _, table in self._tables.values()],
            "powers": list(map(list, self._powers)),
            "instances": self._instances,
        }

    def _ue(self, ue: UE) -> Plain:
        pair = SNRS if ue.snr_up is not None else RATES
        plain: Plain = {
            "network": self._network(ue.dnn),
            "ue": self._quotient(ue.ue_seconds),
            "edge": self._quotient(ue.edge_seconds),
            pair[0].partition("_")[0]: [getattr(ue, name) for name in pair],
        }
        if ue.weight != 1.0:
            plain["weight"] = ue.weight
        if ue.message_s is not None:
            plain["message_s"] = ue.message_s
        if np.isfinite(ue.deadline_s):
            plain["deadline_s"] = ue.deadline_s
        if ue.power is not None:
            watts = tuple(getattr(ue.power, name) for name in POWER_FIELDS)
            plain["power"] = self._powers.setdefault(watts, len(self._powers))
        return plain

    def _network(self, dnn: DNN) -> int:
        key = f"{dnn.name} {digest_of(dnn)}"
        if key not in self._networks:
            self._networks[key] = len(self._networks), _plain_network(dnn)
        return self._networks[key][0]

    def _quotient(self, seconds: NDArray[np.float64]) -> list[float]:
        """Return the table and the factor that give exactly these seconds."""
        whole = seconds.tobytes()
        if whole not in self._tables:
            for table in self._offered.get(len(seconds), {}).values():
                factor = factor_between(table, seconds)
                if factor is not None:
                    return [self._table(table), factor]
        return [self._table(seconds), 1.0]

    def _table(self, table: NDArray[np.float64]) -> int:
        return self._tables.setdefault(table.tobytes(), (len(self._tables), table))[0]


def factor_between(table: NDArray[np.float64], seconds: NDArray[np.float64]) -> float | None:
    """Return the factor by which a table was divided to give exactly these seconds, or None."""
    used = seconds > 0
    if not used.any() or not np.array_equal(used, table > 0):
        return None
    guesses = table[used] / seconds[used]
    if np.ptp(guesses) > 1e-12 * guesses[0]:
        return None
    for guess in np.unique(guesses):
        for steps in NEAR:
            factor = guess + steps * np.spacing(guess)
            if np.array_equal(table / factor, seconds):
                return float(factor)
    return None


def read_cases(content: Any) -> tuple[Case, ...]:
    """Return the cases in a file's content.

    Raises:
        ValueError: If the content is invalid, or a network of the catalogue has changed.
    """
    content = mapping("the instances", content)
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema={short(content.get('schema'))}: this version reads {SCHEMA!r}")
    networks = [_network(plain) for plain in content["networks"]]
    tables = [np.array(row, np.float64) for row in content["seconds"]]
    powers = [Power(*row) for row in content["powers"]]
    return tuple(
        Case(one["id"], one["group"], _instance(one, networks, tables, powers))
        for one in content["instances"]
    )


def _instance(
    one: Plain, networks: Sequence[DNN], tables: Sequence[NDArray[np.float64]], powers: Any
) -> Instance:
    ues = []
    for ue in one["ues"]:
        (own, factor), (server, slowness) = ue["ue"], ue["edge"]
        names, given = (SNRS, ue["snr"]) if "snr" in ue else (RATES, ue["uplink"])
        more = {k: ue[k] for k in ("weight", "message_s", "deadline_s") if k in ue}
        ues.append(
            UE(
                networks[ue["network"]], tables[own] / factor, tables[server] / slowness,
                **dict(zip(names, given, strict=True)), **more,
                power=powers[ue["power"]] if "power" in ue else None,
            )
        )  # fmt: skip
    prices = {name: one[name] for name in PRICES if name in one}
    return Instance(ues, one["bandwidth_hz"], one["upload"], **prices)


def digest_of(dnn: DNN) -> str:
    """Return a digest of all properties of a network that a plan's latency depends on."""
    parts = [getattr(dnn, name) for name in AMOUNTS]
    parts += [dnn.predecessor_offsets, dnn.predecessor_indices, np.array([dnn.input_bytes])]
    ordered = (part.astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)
    return hashlib.sha256(b"".join(ordered)).hexdigest()[:16]


def _plain_network(dnn: DNN) -> Plain:
    name, digest = (dnn.full or dnn).name, digest_of(dnn)
    for bits in product(BITS, BITS) if name in DNN.names() else ():
        if _shipped(name, *bits).name == dnn.name and digest_of(_shipped(name, *bits)) == digest:
            return {"name": name, "bits": list(bits), "digest": digest}
    amounts = {name: list(map(_number, getattr(dnn, name).tolist())) for name in AMOUNTS}
    read = [list(row) for row in dnn.predecessors]
    return {"name": dnn.name, **amounts, "predecessors": read, "input_bytes": dnn.input_bytes}


def _network(plain: Plain) -> DNN:
    if "digest" not in plain:
        return DNN(**plain)
    dnn = _shipped(plain["name"], *plain["bits"])
    if digest_of(dnn) != plain["digest"]:
        raise ValueError(
            f"network {dnn.name!r} of the catalogue has changed since the instances were frozen "
            f"(digest {digest_of(dnn)} instead of {plain['digest']})"
        )
    return dnn


@lru_cache(maxsize=64)
def _shipped(name: str, parameter_bits: int, activation_bits: int) -> DNN:
    return DNN.load(name).at_precision(parameter_bits, activation_bits)


def _number(value: float) -> int | float:
    """Return whole numbers as int, so that they have no decimal point."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def plain_plan(plan: Plan) -> Plain:
    """Return a plan as JSON: a text per UE with a digit for every layer, and both shares."""
    rows = {
        "edge": plan.placements,
        "prefetch": plan.prefetch or (),
        "retain": plan.retain or (),
    }
    marked = {
        name: ["".join(map(str, row.tolist())) for row in rows[name]]
        for name in rows
        if any(row.any() for row in rows[name]) or name == "edge"
    }
    shares = {"bandwidth": plan.bandwidth_share, "compute": plan.compute_share}
    return marked | {name: share.tolist() for name, share in shares.items()}


def read_plan(plain: Any) -> Plan:
    """Return the plan from `plain_plan`'s output; a ValueError says what is wrong with it."""
    plain = mapping("plan", plain)
    known = ("edge", "prefetch", "retain", "bandwidth", "compute")
    if unknown := set(plain) - set(known):
        raise ValueError(f"plan has {sorted(unknown)}: allowed are {list(known)}")
    for name in ("edge", "bandwidth", "compute"):
        if not isinstance(plain.get(name), list):
            raise ValueError(f"plan.{name}={short(plain.get(name))}: must be a list")
    for name in ("bandwidth", "compute"):
        for i, share in enumerate(plain[name]):
            number(f"plan.{name}[{i}]", share)
    marks = {name: _marks(name, plain[name]) for name in known[:3] if name in plain}
    placements = marks.pop("edge")
    return Plan(placements, plain["bandwidth"], plain["compute"], **marks)


def _marks(name: str, rows: Any) -> list[ArrayLike]:
    found: list[ArrayLike] = []
    for i, row in enumerate(rows if isinstance(rows, list) else [None]):
        if not isinstance(row, str) or set(row) - {"0", "1"} or not row:
            raise ValueError(f"plan.{name}[{i}]={short(row)}: must be a text of 0s and 1s")
        found.append(np.frombuffer(row.encode(), np.uint8) - ord("0"))
    return found
