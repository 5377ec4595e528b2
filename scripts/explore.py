"""What would the edge gain one device, and where should its network be cut?

    python scripts/explore.py --model resnet18 --ue odroid-xu4 --edge server-gpu --uplink-mbps 50

Prints what every planner's plan would really take, and writes a page with interactive timelines
(explore.html, one file that needs no network), figures and CSV files.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from agents.benchmark.one_ue import Curves, Exploration
    from mjoa_gym import DNN, Instance

MBPS = 1e6
UPLOADS = ("parallel", "serial", "whole", "preinstalled")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    from scripts.catalogue.source import add_input_options

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--model", required=True,
        help="a name of the catalogue, a .json or .onnx file, or package.module:callable",
    )  # fmt: skip
    device = "a name of mjoa_gym.devices.device_names(), or a .json or .csv table"
    parser.add_argument("--ue", required=True, metavar="DEVICE", help=device)
    parser.add_argument("--edge", required=True, metavar="DEVICE", help="likewise")
    parser.add_argument("--uplink-mbps", required=True, type=float, help="Mbit/s")
    parser.add_argument("--downlink-mbps", type=float, help="Mbit/s (default: as the uplink)")
    parser.add_argument(
        "--upload", default="parallel", choices=UPLOADS, help="how parameters go (default parallel)"
    )
    parser.add_argument(
        "--resident", default="none", metavar="LAYERS",
        help="parameters on the server: none, all, or layers as 0-9,12 (default none)",
    )  # fmt: skip
    parser.add_argument("--granularity", default="layer", choices=("layer", "block"))
    add_input_options(parser)
    parser.add_argument("--planners", nargs="+", metavar="NAME", help="default: all for one UE")
    parser.add_argument("--points", type=int, default=25, help="per figure (default 25)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/explore"), help="(default %(default)s)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Explore; returns the exit status."""
    args = arguments(argv)
    sys.path.insert(0, os.getcwd())  # the user's own packages
    try:
        from agents.benchmark.one_ue import (
            comparison_table,
            terminal_table,
            verdict,
            write_exploration,
        )

        found = explore(args)
        page, table = write_exploration(found, args.out), comparison_table(found)
        print(f"{found.title}: {found.subtitle}\n\n{terminal_table(table)}\n")
        print(f"{table.caption}\n{verdict(found)}")
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"explore: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"explore: {error}; pip install -e '.[explore]'", file=sys.stderr)
        return 1
    print(f"Open {page}; figures and numbers are beside it.")
    return 0


def explore(args: argparse.Namespace) -> Exploration:
    """Everything that the report needs.

    Raises:
        ValueError: Naming field, value and what is allowed.
        OSError: If a file cannot be read.
    """
    from tqdm import tqdm

    from agents.benchmark.one_ue import Exploration
    from mjoa_gym.devices import load_device
    from mjoa_gym.evaluation.explore import compare, one_ue_instance, one_ue_planners
    from mjoa_gym.rendering.style import amount
    from mjoa_gym.validation import count, positive
    from scripts.catalogue.source import profile_of

    points = count("points", args.points)
    uplink = positive("uplink_mbps", args.uplink_mbps)
    given = args.uplink_mbps if args.downlink_mbps is None else args.downlink_mbps
    downlink = positive("downlink_mbps", given)
    dnn = profile_of(args.model, args.input_shape or [], args.dtype or [])
    dnn = dnn.blocks() if args.granularity == "block" else dnn
    resident = resident_layers(args.resident, dnn)
    ue_s, edge_s = (load_device(name).seconds(dnn) for name in (args.ue, args.edge))
    instance = one_ue_instance(
        dnn, ue_s, edge_s, uplink * MBPS, downlink * MBPS, resident, args.upload
    )
    planners = args.planners or one_ue_planners()
    modes = [args.upload, *(mode for mode in UPLOADS if mode != args.upload)]
    bar = partial(tqdm, unit="plan", leave=False, disable=None, desc="planners")
    answers = compare(instance, planners, modes, bar)
    there = (
        f", {amount(float(dnn.parameter_bytes @ resident))} there already" if resident.any() else ""
    )
    rates = f"{uplink:g} Mbit/s up, {downlink:g} Mbit/s down"
    return Exploration(
        title=f"{dnn.name} on {args.ue} with {args.edge}",
        subtitle=(
            f"{dnn.n_layers} layers, {amount(float(dnn.parameter_bytes.sum()))} of parameters"
            f"{there}; {rates}"
        ),
        upload=args.upload,
        uplink_bps=uplink * MBPS,
        answers=answers,
        curves=curves(instance, planners, uplink, points),
    )


def curves(
    instance: Instance, planners: Sequence[str], uplink_mbps: float, points: int
) -> list[Curves]:
    """How latency depends on the rates and on the server's speed."""
    from tqdm import tqdm

    from agents.benchmark.one_ue import Curves
    from mjoa_gym.evaluation.explore import (
        latencies_against,
        with_faster_network,
        with_faster_server,
    )

    drawn = [name for name in planners if not name.endswith("-prefetch")]  # as without
    mbps, speeds = np.geomspace(1, 1000, points), np.geomspace(1 / 64, 16, points)
    networks = [with_faster_network(instance, rate / uplink_mbps) for rate in mbps]
    servers = [with_faster_server(instance, speed) for speed in speeds]
    bars = [
        partial(tqdm, unit="plan", leave=False, disable=None, desc=desc)
        for desc in ("bandwidth", "server's speed")
    ]
    return [
        Curves(
            "bandwidth", "Latency against bandwidth", "uplink (Mbit/s); the downlink in proportion",
            mbps, latencies_against(networks, drawn, bars[0]), uplink_mbps,
        ),
        Curves(
            "server_speed", "Latency against the server's speed", "server's speed, times",
            speeds, latencies_against(servers, drawn, bars[1]), 1.0,
        ),
    ]  # fmt: skip


def resident_layers(text: str, dnn: DNN) -> np.ndarray:
    """(L,) 1 for layers whose parameters are on the server: "none", "all", or as "0-9,12".

    Raises:
        ValueError: If it is none of these, or names a layer that there is not.
    """
    resident = np.zeros(dnn.n_layers)
    if text == "none":
        return resident
    if text == "all":
        return resident + 1
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise ValueError(f"resident={text!r}: allowed are none, all, or layers as 0-9,12")
        a, b = int(first), int(last if dash else first)
        if not a <= b < dnn.n_layers:
            raise ValueError(f"resident has {part!r}: allowed are layers 0-{dnn.n_layers - 1}")
        resident[a : b + 1] = 1
    return resident


if __name__ == "__main__":
    sys.exit(main())
