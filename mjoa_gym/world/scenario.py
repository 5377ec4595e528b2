"""The setting of an environment: its UEs, radio, server and clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import validation
from mjoa_gym.devices import Device, load_device
from mjoa_gym.dnn import DNN
from mjoa_gym.dnn.profile import GRANULARITIES, checked_bits
from mjoa_gym.files import yaml_mapping
from mjoa_gym.model import radio
from mjoa_gym.model.inference import Upload
from mjoa_gym.world.tables import (
    CONSTANTS,
    FACTORS,
    NO_DEADLINES,
    SECONDS,
    Tables,
    tables_of,
)
from mjoa_gym.world.trace import (
    UP,
    Traces,
    checked_names,
    load_trace,
    no_trace,
    relative_to,
    stacked,
)


@dataclass(frozen=True)
class Scenario:
    """A setting; `docs/scenarios.md` gives the source of every default.

    Attributes:
        name: Label, for reports.
        n_ues: Number of UEs in a round, N.
        rounds: Rounds of an episode.
        dnns: The networks that UEs run, one drawn uniformly per UE; catalogue names or `DNN`s.
        granularity: "layer" or "block": how catalogue networks are loaded.
        parameter_bits: Bits of each parameter as sent and kept: 32, 16, 8 or 4.
        activation_bits: Bits of each number of an activation as sent: 32, 16, 8 or 4.
        ue_devices: UE devices, one drawn uniformly per UE; names, files or `Device`s. Naming one
            twice makes it twice as likely (the same holds for `dnns`).
        ue_speed_min: Minimum speed of a UE as a factor of its device's speed (uniform).
        ue_speed_max: Maximum of this factor.
        weight_min: Minimum weight of a UE in the objective (uniform).
        weight_max: Maximum weight.
        edge_device: The device that is the whole server.
        edge_speed: Speed of the server as a factor of its device's speed.
        upload: Upload mode: "parallel", "serial", "whole" or "preinstalled".
        message_s: Seconds from sending the last byte of a message until it can be used.
        bandwidth_hz: The band, shared by all UEs, the same in both directions.
        ue_power_dbm: Transmit power of a UE, concentrated on its share of the band.
        edge_power_dbm: Transmit power of the base station, over the whole band.
        noise_dbm_per_hz: Noise power density.
        path_loss_exponent: Exponent of the log-distance model.
        reference_loss_db: Path loss at 1 m.
        distance_min_m: Inner radius of the annulus around the base station over which UEs are
            uniform.
        distance_max_m: Outer radius of it.
        shadowing_db: Standard deviation of the log-normal shadowing.
        rayleigh_fading: Whether each round and direction draws an independent Rayleigh fade.
        snr_min_db: Lower limit to which drawn SNRs at full band are clipped.
        snr_max_db: Upper limit.
        period_s: Streaming: minimum seconds of a round; every UE issues one inference per round.
        server_memory_bytes: Streaming: bytes of parameters that the server keeps between rounds.
        share_parameters: Streaming: whether a UE can use equal layers that others have uploaded
            (`DNN.fingerprints`). The server keeps such layers once, and also when UEs leave.
        retain: Streaming: whether a decision chooses the layers that are dropped last.
        departure_probability: Streaming: probability that a UE leaves after a round.
        shadowing_correlation: Streaming: correlation from one round to the next, in [0, 1].
        speed_m_per_s: Streaming: walking speed of UEs, each round in a new random direction.
        trace: Measured links in place of the radio model (`docs/uplinks.md`): a packaged trace, a
            CSV file, a `GivenTrace`, or a list of them, of which UE i plays the one i mod their
            number.
        deadline_factor_min: Least deadline of a UE as a factor of its network's all-local seconds
            on it (uniform, drawn when it arrives); None for no deadlines, or for those in seconds.
        deadline_factor_max: Greatest.
        deadline_min_s: Least deadline in seconds (uniform, drawn when a UE arrives); None for none.
        deadline_max_s: Greatest.
        energy_price_s_per_j: Seconds of latency that a joule of a UE's counts as in the objective;
            above 0, the power of all UE devices must be known.
        miss_price_s: Seconds of latency that a missed deadline counts as in the objective.

    Raises:
        ValueError: If a field is invalid; names the field, its value and what is allowed.
    """

    name: str = "default"
    n_ues: int = 5
    rounds: int = 20
    dnns: tuple[str | DNN, ...] = ("mobilenet_v2", "googlenet", "resnet18", "resnet50", "vgg16")
    granularity: str = "layer"
    parameter_bits: int = 16
    activation_bits: int = 16
    ue_devices: tuple[str | Device, ...] = ("raspberry-pi-4", "phone-cpu")
    ue_speed_min: float = 0.05
    ue_speed_max: float = 0.2
    weight_min: float = 1.0
    weight_max: float = 1.0
    edge_device: str | Device = "server-cpu"
    edge_speed: float = 0.25
    upload: str = "parallel"
    message_s: float = 0.002
    bandwidth_hz: float = 20e6
    ue_power_dbm: float = 23.0
    edge_power_dbm: float = 30.0
    noise_dbm_per_hz: float = -174.0
    path_loss_exponent: float = 3.0
    reference_loss_db: float = 43.3
    distance_min_m: float = 10.0
    distance_max_m: float = 100.0
    shadowing_db: float = 6.0
    rayleigh_fading: bool = True
    snr_min_db: float = -20.0
    snr_max_db: float = 60.0
    period_s: float = 1.0
    server_memory_bytes: float = 64e6
    share_parameters: bool = True
    retain: bool = True
    departure_probability: float = 0.02
    shadowing_correlation: float = 0.9
    speed_m_per_s: float = 1.4
    trace: Traces = None
    deadline_factor_min: float | None = None
    deadline_factor_max: float | None = None
    deadline_min_s: float | None = None
    deadline_max_s: float | None = None
    energy_price_s_per_j: float = 0.0
    miss_price_s: float = 0.0

    def __post_init__(self) -> None:
        for check, names in _CHECKS.items():
            for field in names:
                object.__setattr__(self, field, check(field, getattr(self, field)))
        validation.choice("granularity", self.granularity, GRANULARITIES)
        Upload.of(self.upload)
        for low, high in _RANGES:
            validation.at_most(low, getattr(self, low), high, getattr(self, high))
        self._check_deadlines()
        # unknown names raise here
        self.profiles, self.devices, self.server, self.traces  # noqa: B018
        if self.energy_price_s_per_j > 0:
            self._check_powers()

    @staticmethod
    def names() -> tuple[str, ...]:
        """Return the packaged scenarios, for `Scenario.load`."""
        files = (resources.files("mjoa_gym.world") / "scenarios").iterdir()
        return ("default", *sorted(f.name[:-5] for f in files if f.name.endswith(".yaml")))

    @staticmethod
    def load(name_or_path: str | Path) -> Scenario:
        """Load a packaged scenario by name, or one from a YAML file (ending in .yaml or .yml).

        A file holds the fields that differ from the defaults, or from the scenario that its `base`
        names. Paths of traces are relative to the file's folder.

        Raises:
            ValueError: If there is no such name, or the content is not allowed.
            OSError: If the file cannot be read.
        """
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            name = validation.choice("scenario", str(name_or_path), Scenario.names())
            return Scenario(**_packaged(name))
        content = yaml_mapping(path.read_text("utf-8"), f"scenario {path.stem!r}")
        if "trace" in content:
            content["trace"] = relative_to(path.parent, content["trace"])
        return Scenario.from_dict({"name": path.stem, **content})

    @staticmethod
    def from_dict(settings: Mapping[str, Any]) -> Scenario:
        """Make a scenario from the fields that differ from the defaults.

        With `base`, a packaged scenario's name, the fields are those that differ from that
        scenario. The name then is "{base} with" these fields, unless they include a name.

        Raises:
            ValueError: If a field is unknown (suggests the nearest one) or invalid.
        """
        changes = dict(settings)
        name = validation.choice("base", changes.pop("base", "default"), Scenario.names())
        known = ["base", *(field.name for field in fields(Scenario))]
        for key in changes:
            if key not in known:
                hint = validation.did_you_mean(key, known) or f"; allowed are {known}"
                raise ValueError(f"scenario has no field {key!r}{hint}")
        if name != "default" and changes:
            changes = {"name": f"{name} with {', '.join(changes)}", **changes}
        return Scenario(**(_packaged(name) | changes))

    @staticmethod
    def of(given: Scenario | Mapping[str, Any] | str | Path | None) -> Scenario:
        """Make a scenario from anything that an environment's `scenario` argument accepts.

        Raises:
            TypeError: If the argument has another type.
            ValueError: If its content is not allowed.
        """
        if given is None:
            return Scenario()
        if isinstance(given, Scenario):
            return given
        if isinstance(given, Mapping):
            return Scenario.from_dict(given)
        if not isinstance(given, (str, Path)):
            raise TypeError(
                f"scenario={given!r}: must be a Scenario, a dictionary of fields, a name or a path"
            )
        return Scenario.load(given)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON or YAML and for `Scenario.from_dict`.

        Raises:
            ValueError: If the scenario holds objects where a file can hold only names.
        """
        plain: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for key in ("dnns", "ue_devices", "trace"):
            plain[key] = list(plain[key]) if isinstance(plain[key], tuple) else plain[key]
        for key in ("dnns", "ue_devices", "edge_device", "trace"):
            values = plain[key] if isinstance(plain[key], list) else [plain[key]]
            if not all(value is None or isinstance(value, str) for value in values):
                raise ValueError(f"{key} holds objects: only names can be written to a file")
        return plain

    def with_changes(self, **changes: Any) -> Scenario:
        """Return a copy with the given fields changed; None leaves a field unchanged."""
        changes = {key: value for key, value in changes.items() if value is not None}
        return replace(self, **changes) if changes else self

    @property
    def has_deadlines(self) -> bool:
        """Whether UEs have deadlines."""
        return self._deadlines[0] != NO_DEADLINES

    @property
    def most_deadline_s(self) -> float:
        """The longest deadline that a UE can have; inf without deadlines."""
        kind, _, most = self._deadlines
        if kind == FACTORS:
            return most * float(self.tables.local_s.max()) / self.ue_speed_min
        return most

    @cached_property
    def knows_energy(self) -> bool:
        """Whether the power of all UE devices is known."""
        return all(device.power is not None for device in self.devices)

    @property
    def _deadlines(self) -> tuple[int, float, float]:
        """Kind of the deadlines, and their minimum and maximum."""
        for kind, (low, high) in _DEADLINES.items():
            if getattr(self, low) is not None:
                return kind, getattr(self, low), getattr(self, high)
        return NO_DEADLINES, np.inf, np.inf

    def _check_deadlines(self) -> None:
        names = [name for bounds in _DEADLINES.values() for name in bounds]
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if tuple(given) not in ((), *_DEADLINES.values()):
            factors, seconds = map(list, _DEADLINES.values())
            allowed = f"{factors}, or {seconds}, or none of them"
            raise ValueError(f"deadlines: got {list(given)}; they must be {allowed}")
        for name, value in given.items():
            object.__setattr__(self, name, validation.positive(name, value))
        if given:
            low, high = given
            validation.at_most(low, getattr(self, low), high, getattr(self, high))

    def _check_powers(self) -> None:
        for device in self.devices:
            if device.power is None:
                raise ValueError(
                    f"energy_price_s_per_j={self.energy_price_s_per_j!r}: the UE device"
                    f" {device.name!r} has no power, so it must be 0"
                )

    @cached_property
    def profiles(self) -> tuple[DNN, ...]:
        """(D,) the networks of `dnns`, at the precision at which they are sent."""
        dnns = (_load_dnn(d, self.granularity) if isinstance(d, str) else d for d in self.dnns)
        return tuple(dnn.at_precision(self.parameter_bits, self.activation_bits) for dnn in dnns)

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """(K,) the devices of `ue_devices`."""
        return tuple(_device(device) for device in self.ue_devices)

    @cached_property
    def server(self) -> Device:
        """The device of `edge_device`."""
        return _device(self.edge_device)

    @cached_property
    def tables(self) -> Tables:
        """Everything that never changes, as arrays for kernels; shared by equal scenarios."""
        return tables_of(self.profiles, self.devices, self.server, self.edge_speed)

    @property
    def memory_rows(self) -> int:
        """Rows of the server's memory, R (see `world.memory`)."""
        return len(self.dnns) if self.share_parameters else self.n_ues

    @property
    def traced(self) -> bool:
        """Whether the links are measured."""
        return self.trace is not None

    @cached_property
    def traces(self) -> NDArray[np.float64]:
        """(F, R, 4) the traces of `trace`, as from `world.trace.stacked`; F = 0 without a trace."""
        if self.trace is None:
            return no_trace()
        names = self.trace if isinstance(self.trace, tuple) else (self.trace,)
        return stacked([load_trace(name, self.message_s) for name in names])

    @cached_property
    def link_limits(self) -> NDArray[np.float64]:
        """(2, 3) minimum and maximum of the properties of a link: up, down, message.

        Up and down are SNRs, or rates of measured links (`population.Population`).
        """
        if self.traced:
            rows = self.traces.reshape(-1, self.traces.shape[2])[:, UP:]
            return np.stack([rows.min(axis=0), rows.max(axis=0)])
        snrs = [radio.from_db(level_db) for level_db in (self.snr_min_db, self.snr_max_db)]
        return np.array([[snr, snr, self.message_s] for snr in snrs])

    @cached_property
    def constants(self) -> NDArray[np.void]:
        """(1,) the numbers that kernels read, named as in `CONSTANTS`.

        This is an array because passing one to a kernel is much faster than passing two dozen
        numbers, or one record.
        """
        deadlines, deadline_min, deadline_max = self._deadlines
        derived = {
            "mode": int(Upload.of(self.upload)),
            "n_dnns": len(self.dnns),
            "n_devices": len(self.ue_devices),
            "noise_power_dbm": radio.noise_dbm(self.noise_dbm_per_hz, self.bandwidth_hz),
            "snr_min": radio.from_db(self.snr_min_db),
            "snr_max": radio.from_db(self.snr_max_db),
            "traced": self.traced,
            "knows_energy": self.knows_energy,
            "deadlines": deadlines,
            "deadline_min": deadline_min,
            "deadline_max": deadline_max,
        }
        for name, low, high in zip(("up", "down", "message"), *self.link_limits, strict=True):
            derived |= {f"{name}_min": low, f"{name}_max": high}
        numbers = [
            derived[name] if name in derived else getattr(self, name)
            for name in CONSTANTS.fields or ()
        ]
        return np.array([tuple(numbers)], CONSTANTS).view(np.recarray)

    def __deepcopy__(self, memo: dict[int, Any]) -> Scenario:
        return self  # immutable; `gym.make` deep-copies its arguments


def _packaged(name: str) -> dict[str, Any]:
    """Return the fields in which a packaged scenario differs from the defaults."""
    if name == "default":
        return {}
    file = resources.files("mjoa_gym.world") / "scenarios" / f"{name}.yaml"
    return {"name": name, **yaml_mapping(file.read_text("utf-8"), f"scenario {name!r}")}


@lru_cache(maxsize=64)
def _load_dnn(name: str, granularity: Any) -> DNN:
    return DNN.load(name, granularity)


def _device(given: str | Device) -> Device:
    return load_device(given) if isinstance(given, str) else given


def _several(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise ValueError(f"{name}={values!r}: must be a list")
    if not (several := tuple(values)):
        raise ValueError(f"{name} is empty: at least one is needed")
    return several


def _boolean(name: str, value: Any) -> bool:
    if value not in (True, False):
        raise ValueError(f"{name}={value!r}: must be true or false")
    return bool(value)


_CHECKS: dict[Any, tuple[str, ...]] = {
    validation.count: ("n_ues", "rounds"),
    checked_bits: ("parameter_bits", "activation_bits"),
    _several: ("dnns", "ue_devices"),
    _boolean: ("rayleigh_fading", "share_parameters", "retain"),
    checked_names: ("trace",),
    validation.positive: (
        "ue_speed_min", "ue_speed_max", "weight_min", "weight_max", "edge_speed", "bandwidth_hz",
        "distance_min_m", "distance_max_m",
    ),
    validation.non_negative: (
        "message_s", "path_loss_exponent", "shadowing_db", "period_s", "server_memory_bytes",
        "speed_m_per_s", "energy_price_s_per_j", "miss_price_s",
    ),
    validation.fraction: ("departure_probability", "shadowing_correlation"),
    validation.finite: (
        "ue_power_dbm", "edge_power_dbm", "noise_dbm_per_hz", "reference_loss_db", "snr_min_db",
        "snr_max_db",
    ),
}  # fmt: skip
_RANGES = (
    ("ue_speed_min", "ue_speed_max"),
    ("weight_min", "weight_max"),
    ("distance_min_m", "distance_max_m"),
    ("snr_min_db", "snr_max_db"),
)
_DEADLINES = {
    FACTORS: ("deadline_factor_min", "deadline_factor_max"),
    SECONDS: ("deadline_min_s", "deadline_max_s"),
}
"""The fields that define deadlines, by kind of deadline."""
