"""Named devices, and measurements from files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mjoa_gym import files
from mjoa_gym.devices.models import LABELS, Device, RegressionDevice, RooflineDevice, TableDevice
from mjoa_gym.devices.power import POWER_FIELDS, Power
from mjoa_gym.validation import as_number, choice, mapping, non_negative

_COLUMNS = ("dnn", "layer", "seconds")
_CONTENTS = ("tables", "coefficients")


def device_names() -> tuple[str, ...]:
    """Return the names that `load_device` knows, sorted."""
    return tuple(sorted(_NAMED))


def load_device(name_or_path: str | Path) -> Device:
    """Return a named device, or read measurements from a JSON or CSV file.

    The file formats are in ``docs/devices.md``.

    Args:
        name_or_path: One of `device_names()`, or a path that ends in ``.json`` (a table or a
            regression) or in ``.csv`` or ``.tsv`` (a table).

    Raises:
        ValueError: If the name is unknown, or the file is invalid; names the file and the fault.
        OSError: If the file cannot be read.
    """
    if str(name_or_path) in _NAMED:
        return _NAMED[str(name_or_path)]
    path = Path(name_or_path)
    readers = {".json": _from_json, ".csv": _from_csv, ".tsv": _from_csv}
    if path.suffix.lower() not in readers:
        remark = "; a file's name ends in .json, .csv or .tsv"
        choice("name_or_path", str(name_or_path), device_names(), remark)
    return files.read(path, partial(readers[path.suffix.lower()], path.stem))


def _from_json(name: str, content: bytes) -> Device:
    given = mapping("the content", files.parse_json(content))
    for key in given:
        choice("key", key, ("name", *LABELS, *POWER_FIELDS, *_CONTENTS))
    if sum(key in given for key in _CONTENTS) != 1:
        raise ValueError(
            f"has the keys {list(given)}: one of 'tables' and 'coefficients' is needed"
        )
    name = given.get("name", name)
    labels = {key: given[key] for key in LABELS if key in given}
    labels |= {key: str(value) for key, value in labels.items() if type(value) in (int, float)}
    power = _power_in(given)
    if "coefficients" in given:
        return RegressionDevice(name, given["coefficients"], labels, power=power)
    tables = {
        dnn: {str(n): value for n, value in enumerate(table)} if isinstance(table, list) else table
        for dnn, table in mapping("tables", given["tables"]).items()
    }
    return TableDevice(name, tables, labels, power=power)


def _power_in(given: Mapping[str, Any]) -> Power | None:
    """Return the power that a file states, or None; a ValueError if it is incomplete."""
    there = [name for name in POWER_FIELDS if name in given]
    if there and len(there) < len(POWER_FIELDS):
        raise ValueError(f"has only {there} of its power: all of {list(POWER_FIELDS)} are needed")
    return Power(*(given[name] for name in POWER_FIELDS)) if there else None


def _from_csv(name: str, content: bytes) -> TableDevice:
    """Return a table from a text in the format of spreadsheets."""
    tables: dict[str, dict[str, float]] = {}
    labels: dict[str, str] = {}

    def take(row: dict[str, str]) -> None:
        for label in LABELS:
            if labels.setdefault(label, row.get(label, "")) != row.get(label, ""):
                raise ValueError(f"{label}={row[label]!r}: must be {labels[label]!r} as before")
        table = tables.setdefault(row["dnn"], {})
        if row["layer"] in table:
            raise ValueError(f"layer={row['layer']!r}: occurs twice")
        table[row["layer"]] = non_negative("seconds", as_number("seconds", row["seconds"]))

    files.parse_csv(content, _COLUMNS, LABELS, ("seconds",), take)
    return TableDevice(name, tables, {key: value for key, value in labels.items() if value})


_5G = {"transmit_w": 2.5, "receive_w": 1.5}
"""Power of a 5G radio, the same for all devices. It is our choice between two measured bands. At 10
to 190 Mbit/s, a phone drew 2.9 to 4.6 W more for uploads in a millimetre-wave band than in LTE at
1 Mbit/s, and 2.3 to 2.9 W more for downloads. In a low band, it drew 0.8 to 1.9 W more for uploads
at 10 to 40 Mbit/s, and 0.4 to 1.5 W more for downloads at 10 to 100 Mbit/s (Narayanan et al.,
SIGCOMM 2021, computed by us from `MN-Transfer_combined.csv` of their data)."""
_POWER = {
    # Its sibling HC2 (the same Exynos 5422), at the wall: idle, and big cores busy at 2 GHz
    # (sbc-bench, Efficiency_Graphing.md).
    "odroid-xu4": Power(12.6, 3.9, **_5G),
    # Idle 540 mA, `stress --cpu 4` 1280 mA, at 5 V (pidramble.com).
    "raspberry-pi-4": Power(6.4, 2.7, **_5G),
    # Four cores of a Snapdragon 820 add 4.7 W (AnandTech, Kirin 960 review), and the 835 is said to
    # need 25 % less; 0.5 W with the screen off is our choice, of the right order of magnitude.
    "phone-cpu": Power(4.0, 0.5, **_5G),
    # The module's power budget, which caps its power draw (NVIDIA's MaxN mode); 2 W idle is our
    # choice, of the right order of magnitude.
    "jetson-nano": Power(10.0, 2.0, **_5G),
}
"""Power of the devices that are UEs; the sources are in ``docs/devices.md``."""


def _model(name: str, note: str, *figures: float) -> RooflineDevice:
    """Make a device; GFLOP/s of dense, depthwise and linear layers, GB/s, microseconds a layer."""
    dense, depthwise, linear, bandwidth, overhead = figures
    speeds = {"conv": dense, "depthwise_conv": depthwise, "linear": linear, "matmul": dense}
    throughput = {kind: speed * 1e9 for kind, speed in {**speeds, "other": dense}.items()}
    return RooflineDevice(
        name, throughput, bandwidth * 1e9, overhead * 1e-6, "sum", note, power=_POWER.get(name)
    )


_NAMED: dict[str, RooflineDevice] = {
    device.name: device
    for device in (
        _model("odroid-xu4", "IONN client profile, Caffe", 3.27, 0.20, 3.27, 0.68, 2870),
        _model("raspberry-pi-4", "ncnn, Cortex-A72, 4 threads", 54, 13.5, 54, 5.65, 450),
        _model("phone-cpu", "ncnn, Snapdragon 835, 4 big cores", 78, 19.5, 78, 5.9, 180),
        _model("jetson-nano", "ncnn, Vulkan FP16 on the 128-core GPU", 124, 31, 4.4, 9.1, 5),
        _model("server-cpu", "ncnn, Xeon 8124M (c5.4xlarge), 8 threads", 880, 220, 880, 93, 37),
        _model("server-gpu", "IONN server profile, Caffe on its GPU", 1990, 250, 1990, 480, 52),
        _model("server-gpu-v100", "ncnn, Vulkan FP16 on a Tesla V100", 28300, 7075, 28300, 340, 26),
    )
}
