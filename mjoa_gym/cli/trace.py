r"""Convert measurements of a link to a trace for the scenario field `trace` (docs/uplinks.md).

    mjoa-gym trace mahimahi up.txt down.txt --out mine.csv
    mjoa-gym trace table speedtests.csv --uplink-column "Upload (Mbps)" \
        --downlink-column "Download (Mbps)" --ping-column "Ping (ms)" --out mine.csv

This writes the trace, and prints its means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mjoa_gym import files
from mjoa_gym.validation import positive
from mjoa_gym.world.trace import DOWN, MESSAGE, SECONDS, SUFFIXES, UP, is_file, load_trace, mean_of
from mjoa_gym.world.trace_formats import UNITS, Columns, as_csv, from_mahimahi, from_table

MBPS = 1e6


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="FORMAT")
    packets = kinds.add_parser("mahimahi", help="two packet-delivery traces of mm-link")
    packets.add_argument("uplink", type=Path, help="one millisecond per line: 1500 bytes leave")
    packets.add_argument("downlink", type=Path, help="the same for the downlink")
    packets.add_argument("--window", type=float, default=1.0, metavar="SECONDS",
        help="duration of a row (default 1)")  # fmt: skip
    table = kinds.add_parser("table", help="a CSV file with a row for every measurement")
    add = table.add_argument
    add("file", type=Path, help="CSV file with the column names in its first line")
    add("--uplink-column", required=True, metavar="NAME", help="column of the uplink rates")
    add("--downlink-column", required=True, metavar="NAME", help="column of the downlink rates")
    add("--unit", default="Mbit/s", choices=tuple(UNITS), help="unit of both (default Mbit/s)")
    add("--time-column", metavar="NAME", help="default: rows are --every seconds apart")
    add("--time-format", metavar="FORMAT",
        help="format of the times for Python's strptime (default: times are seconds)")  # fmt: skip
    add("--every", type=float, default=1.0, metavar="SECONDS",
        help="time between rows without a time column (default 1)")  # fmt: skip
    add("--ping-column", metavar="NAME", help="in ms; a message costs half of it")
    for each in (packets, table):
        each.add_argument("--least-mbps", type=float, default=0.1, metavar="MBPS",
            help="raise lower rates, including zero, to this rate (default 0.1)")  # fmt: skip
        each.add_argument("--out", type=Path, required=True, metavar="FILE.csv",
            help="trace file to write")  # fmt: skip


def execute(args: argparse.Namespace) -> int:
    """Convert, write, and print the means."""
    if not is_file(args.out):
        raise ValueError(f"out={str(args.out)!r}: must end in {' or '.join(SUFFIXES)}")
    least_bps, left_out = positive("least_mbps", args.least_mbps) * MBPS, 0
    if args.kind == "mahimahi":
        rows = from_mahimahi(args.uplink, args.downlink, args.window, least_bps)
    else:
        columns = Columns(
            args.uplink_column, args.downlink_column, args.unit, args.time_column,
            args.time_format, args.every, args.ping_column,
        )  # fmt: skip
        rows, left_out = from_table(args.file, columns, least_bps)
    files.write(args.out, as_csv(rows))
    trace = load_trace(str(args.out), 0.0)
    mean = mean_of(trace)
    message = f", {1e3 * mean[MESSAGE]:.3g} ms per message" if rows.shape[1] > MESSAGE else ""
    print(f"{args.out}: {len(rows)} rows, {trace[-1, SECONDS]:g} s; {left_out} rows left out")
    print(f"mean: {mean[UP] / MBPS:.4g} Mbit/s up, {mean[DOWN] / MBPS:.4g} Mbit/s down{message}")
    return 0
