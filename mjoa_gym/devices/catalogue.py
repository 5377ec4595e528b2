"""Named devices, and measured tables from files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from mjoa_gym.devices.models import LABELS, Device, RooflineDevice, TableDevice, check_choice


def device_names() -> tuple[str, ...]:
    """Return the names that `load_device` knows, sorted."""
    return tuple(sorted(_NAMED))


def load_device(name_or_path: str | Path) -> Device:
    """Return a named device, or read a measured table from a JSON or CSV file.

    The file formats are in ``docs/devices.md``.

    Args:
        name_or_path: One of `device_names()`, or a path that ends in ``.json`` or ``.csv``.

    Raises:
        ValueError: If the name is unknown, or the file has unknown or missing fields, a negative or
            NaN time, two times for one layer, or labels that differ between rows.
        OSError: If the file cannot be read.
    """
    if str(name_or_path) in _NAMED:
        return _NAMED[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix == ".json":
        return _read_json(path)
    if path.suffix == ".csv":
        return _read_csv(path)
    raise ValueError(
        f"name_or_path: got {str(name_or_path)!r}; allowed: a .json or .csv file or one of "
        f"{', '.join(device_names())}"
    )


def _read_json(path: Path) -> TableDevice:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("tables"), dict):
        raise ValueError(f"{path}: got no 'tables'; allowed: an object with tables per DNN name")
    for key in content:
        check_choice(f"field of {path}", key, ("name", *LABELS, "tables"))
    tables = {}
    for dnn, table in content["tables"].items():
        if isinstance(table, list):
            table = {str(layer): seconds for layer, seconds in enumerate(table)}
        if not isinstance(table, dict):
            raise ValueError(f"tables[{dnn!r}] of {path}: got {table!r}; allowed: list or object")
        tables[dnn] = table
    labels = {key: str(content[key]) for key in LABELS if key in content}
    return TableDevice(content.get("name", path.stem), tables, labels)


def _read_csv(path: Path) -> TableDevice:
    tables: dict[str, dict[str, float]] = {}
    labels: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or ()
        for column in columns:
            check_choice(f"column of {path}", column, ("dnn", "layer", "seconds", *LABELS))
        if not {"dnn", "layer", "seconds"} <= set(columns):
            raise ValueError(
                f"columns of {path}: got {', '.join(columns) or 'none'}; "
                "allowed: at least dnn, layer, seconds"
            )
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(
                    f"{where}: got too many or too few values; allowed: {len(columns)}"
                )
            for label in LABELS:
                if label in row:
                    check_choice(
                        f"{label} ({where})", row[label], (labels.setdefault(label, row[label]),)
                    )
            table = tables.setdefault(row["dnn"], {})
            if row["layer"] in table:
                raise ValueError(
                    f"layer ({where}): got {row['layer']!r} again; allowed: once per dnn"
                )
            try:
                table[row["layer"]] = float(row["seconds"])
            except ValueError:
                raise ValueError(
                    f"seconds ({where}): got {row['seconds']!r}; allowed: a number >= 0"
                ) from None
    return TableDevice(path.stem, tables, labels)


def _fitted(
    name: str,
    conv: float,
    depthwise: float,
    linear: float,
    bandwidth: float,
    overhead: float,
    note: str,
) -> RooflineDevice:
    """Return a named device; GFLOP/s, GB/s and microseconds per layer."""
    speeds = {"conv": conv, "depthwise_conv": depthwise, "linear": linear, "matmul": conv}
    throughput = {kind: speed * 1e9 for kind, speed in {**speeds, "other": conv}.items()}
    return RooflineDevice(name, throughput, bandwidth * 1e9, overhead * 1e-6, "sum", note)


_NAMED: dict[str, RooflineDevice] = {
    device.name: device
    for device in (
        _fitted("odroid-xu4", 3.27, 0.20, 3.27, 0.68, 2870, "IONN client profile, Caffe"),
        _fitted("raspberry-pi-4", 54, 13.5, 54, 5.65, 450, "ncnn, Cortex-A72, 4 threads"),
        _fitted("phone-cpu", 78, 19.5, 78, 5.9, 180, "ncnn, Snapdragon 835, 4 big cores"),
        _fitted("jetson-nano", 124, 31, 4.4, 9.1, 5, "ncnn, Vulkan FP16 on the 128-core GPU"),
        _fitted("server-cpu", 880, 220, 880, 93, 37, "ncnn, Xeon 8124M (c5.4xlarge), 8 threads"),
        _fitted("server-gpu", 1990, 250, 1990, 480, 52, "IONN server profile, Caffe on its GPU"),
        _fitted(
            "server-gpu-v100", 28300, 7075, 28300, 340, 26, "ncnn, Vulkan FP16 on a Tesla V100"
        ),
    )
}
