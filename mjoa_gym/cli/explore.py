"""Show what one device gains from the edge, and where to cut its network.

    mjoa-gym explore --model resnet18 --ue odroid-xu4 --edge server-gpu --uplink-mbps 50

This prints the simulated latency of every planner's plan, and writes a page with interactive
timelines (explore.html, one file that works offline), figures and CSV files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mjoa_gym.cli.model import add_input_options, profile_of
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.model.instance import UE, Instance
from mjoa_gym.validation import count, non_negative, positive

if TYPE_CHECKING:
    from mjoa_gym.dnn import DNN
    from mjoa_gym.evaluation.exploration_report import Curves, Exploration

MBPS = 1e6


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("--model", required=True,
        help="name of the catalogue, .json or .onnx file, or package.module:callable")  # fmt: skip
    device = "a name of mjoa_gym.devices.device_names(), or a .json or .csv table"
    add("--ue", required=True, metavar="DEVICE", help=device)
    add("--edge", required=True, metavar="DEVICE", help="likewise")
    add("--uplink-mbps", required=True, type=float, help="Mbit/s")
    add("--downlink-mbps", type=float, help="Mbit/s (default: the uplink's)")
    add("--message-ms", type=float, default=0.0, help="fixed cost of a message (default 0)")
    add("--upload", default="parallel", choices=UPLOAD_MODES,
        help="upload mode of the parameters (default parallel)")  # fmt: skip
    add("--resident", default="none", metavar="LAYERS",
        help="parameters on the server: none, all, or layers as 0-9,12 (default none)")  # fmt: skip
    add("--granularity", default="layer", choices=("layer", "block"),
        help="layers, or the blocks between cut layers (default layer)")  # fmt: skip
    add_input_options(parser)
    add("--planners", nargs="+", metavar="NAME", help="default: all that differ for one UE")
    add("--points", type=int, default=25, help="points per figure (default 25)")
    add("--out", type=Path, default=Path("runs/explore"), help="(default %(default)s)")


def execute(args: argparse.Namespace) -> int:
    """Explore, print the table, write everything."""
    from mjoa_gym.evaluation.exploration_report import comparison_table, verdict, write_exploration

    found = explore(args)
    page, table = write_exploration(found, args.out), comparison_table(found)
    print(f"{found.title}: {found.subtitle}\n\n{table.text(left=(0, -1))}\n")
    print(f"{table.caption}\n{verdict(found)}")
    print(f"Open {page}; figures and numbers are in the same folder.")
    return 0


def explore(args: argparse.Namespace) -> Exploration:
    """Compute everything that the report needs."""
    from mjoa_gym.devices import load_device
    from mjoa_gym.evaluation.exploration import answers_of, one_ue_planners
    from mjoa_gym.evaluation.exploration_report import Exploration
    from mjoa_gym.rendering.style import amount

    points = count("points", args.points)
    uplink = positive("uplink_mbps", args.uplink_mbps)
    given = args.uplink_mbps if args.downlink_mbps is None else args.downlink_mbps
    downlink = positive("downlink_mbps", given)
    dnn = profile_of(args.model, args.input_shape or [], args.dtype or [])
    dnn = dnn.blocks() if args.granularity == "block" else dnn
    resident = resident_layers(args.resident, dnn)
    ue_s, edge_s = (load_device(name).seconds(dnn) for name in (args.ue, args.edge))
    rates: dict[str, Any] = {"uplink_bps": uplink * MBPS, "downlink_bps": downlink * MBPS}
    ue = UE(dnn, ue_s, edge_s, resident=resident, **rates)
    message_s = non_negative("message_ms", args.message_ms) / 1e3
    instance = Instance([ue], upload=args.upload, message_s=message_s)
    planners = args.planners or one_ue_planners()
    modes = [args.upload, *(mode for mode in UPLOAD_MODES if mode != args.upload)]
    there = f", {amount(dnn.parameter_bytes @ resident)} there already" if resident.any() else ""
    message = f", {args.message_ms:g} ms per message" if message_s > 0 else ""
    return Exploration(
        title=f"{dnn.name} on {args.ue} with {args.edge}",
        subtitle=(
            f"{dnn.n_layers} layers, {amount(dnn.parameter_bytes.sum())} of parameters{there}; "
            f"{uplink:g} Mbit/s up, {downlink:g} Mbit/s down{message}"
        ),
        upload=args.upload,
        uplink_bps=uplink * MBPS,
        answers=answers_of(instance, planners, modes, _bar("planners")),
        curves=curves(instance, planners, uplink, points),
    )


def curves(
    instance: Instance, planners: Sequence[str], uplink_mbps: float, points: int
) -> list[Curves]:
    """Compute how latency depends on the rates and on the server's speed."""
    from mjoa_gym.evaluation import exploration
    from mjoa_gym.evaluation.exploration_report import Curves

    drawn = [name for name in planners if not name.endswith("-prefetch")]  # would coincide
    found = []
    for name, what, label, values, here, change in (
        ("bandwidth", "bandwidth", "uplink (Mbit/s); the downlink in proportion",
         np.geomspace(1, 1000, points), uplink_mbps, exploration.with_faster_network),
        ("server_speed", "the server's speed", "server's speed, times",
         np.geomspace(1 / 64, 16, points), 1.0, exploration.with_faster_server),
    ):  # fmt: skip
        instances = [change(instance, value / here) for value in values]
        seconds = exploration.latencies_against(instances, drawn, _bar(what))
        found.append(Curves(name, f"Latency against {what}", label, values, seconds, here))
    return found


def resident_layers(text: str, dnn: DNN) -> np.ndarray:
    """Parse "none", "all" or "0-9,12" to (L,): 1 for layers with parameters on the server."""
    resident = np.full(dnn.n_layers, float(text == "all"))
    for part in text.split(",") if text not in ("none", "all") else ():
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise ValueError(f"resident={text!r}: allowed are none, all, or layers as 0-9,12")
        a, b = int(first), int(last if dash else first)
        if not a <= b < dnn.n_layers:
            raise ValueError(f"resident has {part!r}: allowed are layers 0-{dnn.n_layers - 1}")
        resident[a : b + 1] = 1
    return resident


def _bar(desc: str) -> partial[Any]:
    return partial(bar, unit="plan", leave=False, desc=desc)
