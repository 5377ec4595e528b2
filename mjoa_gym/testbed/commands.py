"""The command lines of both sides."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mjoa_gym.execution.layered_model import Bundle
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.testbed import clock
from mjoa_gym.testbed.connection import KEEP_ALIVE_S, EdgeError
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.models import model_names, program_of, server_program
from mjoa_gym.testbed.processes import TOKEN_VARIABLE, available_cores
from mjoa_gym.testbed.server import EdgeServer
from mjoa_gym.testbed.settings import ServerSettings, UESettings
from mjoa_gym.testbed.ue import UserEquipment
from mjoa_gym.validation import choice, count, positive

DEFAULT_PORT = 4790
MEGA = 1e6
KIB, MIB = 1 << 10, 1 << 20
SIZES = {
    "memory_bytes": ("--memory-mib", MIB, "parameters kept"),
    "model_bytes": ("--model-mib", MIB, "largest network"),
    "query_bytes": ("--activations-mib", MIB, "tensors of one inference"),
    "activation_bytes": ("--all-activations-mib", MIB, "tensors of all inferences"),
    "payload_bytes": ("--frame-kib", KIB, "longest payload"),
}
"""Fields of `ServerSettings`: their options, in which unit these are, and what they say."""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="mjoa-gym testbed", description="Execute a plan on two real processes."
    )
    sides = parser.add_subparsers(dest="side", required=True)
    server = sides.add_parser("server", help="the edge server")
    ue = sides.add_parser("ue", help="a UE")
    for side in (server, ue):
        add = side.add_argument
        add("--host", default=UESettings.host, help="address (default %(default)s)")
        add("--port", type=int, default=DEFAULT_PORT, help="port (default %(default)s)")
        add("--token", default=os.environ.get(TOKEN_VARIABLE, ""),
            help=f"shared secret (default: the environment's {TOKEN_VARIABLE})")  # fmt: skip
        add("--core", type=int, help="core that executes layers (default: any)")
        add("--program", action="append", default=[], metavar="NAME=FILE",
            help="an exported program (.pt2), under a name that both sides use")  # fmt: skip
    add = server.add_argument
    add("--models", nargs="*", metavar="NAME",
        help="of torchvision's classifiers, those on offer (default: all)")  # fmt: skip
    add("--sessions", type=int, default=ServerSettings.sessions,
        help="UEs at a time (default %(default)s)")  # fmt: skip
    for field, (option, unit, said) in SIZES.items():
        default = getattr(ServerSettings, field) // unit
        add(option, dest=field, type=int, default=default, metavar=option[-3:].upper(),
            help=f"{said} (default %(default)s)")  # fmt: skip
    add("--idle-s", type=float, default=ServerSettings.idle_s,
        help="until a silent UE is freed (%(default)s)")  # fmt: skip
    add("--verbose", action="store_true", help="log every session's end")
    add = ue.add_argument
    add(
        "--model",
        help="a torchvision classifier or the name of a --program (its only one, or resnet18)",
    )
    add("--planner", default="mjoa-mu", help="who places the layers (default %(default)s)")
    add("--upload", default="parallel", choices=UPLOAD_MODES, help="(default %(default)s)")
    add("--uplink-mbps", type=float, default=50.0, help="Mbit/s (default %(default)s)")
    add("--downlink-mbps", type=float, help="Mbit/s (default: as the uplink)")
    add("--ue-slowdown", type=float, default=10.0,
        help="how much slower than this machine the UE is (default %(default)s)")  # fmt: skip
    add("--edge-share", type=float, default=1.0,
        help="this UE's share of the server (default %(default)s)")  # fmt: skip
    add("--queries", type=int, default=3, help="inferences, one after the other (%(default)s)")
    add("--until-s", type=float, help="prefetch until then after the start of each")
    add("--stall-s", type=float, default=UESettings.stall_s,
        help="patience with the server (%(default)s)")  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run one side; returns the exit status."""
    args = arguments(argv)
    if not args.token:
        print(f"mjoa-gym testbed: --token or {TOKEN_VARIABLE} is needed", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    try:
        files = _files(args.program)
        allowed = available_cores()
        if args.core is not None and allowed and args.core not in allowed:
            raise ValueError(f"--core {args.core}: allowed are {allowed}")
        clock.run(_serve(args, files) if args.side == "server" else _use(args, files))
    except EdgeError as error:
        raise ValueError(str(error)) from error
    return 0


def _files(texts: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if not name or not file:
            raise ValueError(f"--program {text!r}: NAME=FILE is needed")
        if not Path(file).is_file():
            raise ValueError(f"--program {text!r}: there is no file {file}")
        if name in files:
            raise ValueError(f"--program {text!r}: {name} is {files[name]} already")
        files[name] = Path(file)
    return files


async def _serve(args: argparse.Namespace, files: dict[str, Path]) -> None:
    if not args.idle_s > KEEP_ALIVE_S:
        raise ValueError(
            f"--idle-s {args.idle_s}: must be above {KEEP_ALIVE_S:g}; a UE says so often that it "
            "is there"
        )
    if args.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    names = model_names() if args.models is None else args.models
    for name in args.models or ():
        choice("--models", name, model_names())
    builders = {name: partial(server_program, name, files) for name in (*names, *files)}
    limits = {field: getattr(args, field) * unit for field, (_, unit, _) in SIZES.items()}
    limits["sessions"] = args.sessions
    settings = ServerSettings(
        args.token, args.host, args.port, args.core, idle_s=args.idle_s, **limits
    )
    async with EdgeServer(settings, builders) as server:
        print(f"listening on {args.host}:{server.port}", flush=True)
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()


async def _use(args: argparse.Namespace, files: dict[str, Path]) -> None:
    count("--queries", args.queries)
    if args.until_s is not None:
        positive("--until-s", args.until_s)
    if args.model is None:
        args.model = next(iter(files)) if len(files) == 1 else "resnet18"
    program, inputs = program_of(args.model, files)
    up_bps = args.uplink_mbps * MEGA
    down_bps = up_bps if args.downlink_mbps is None else args.downlink_mbps * MEGA
    if not 0 < args.edge_share <= 1:
        raise ValueError(f"--edge-share {args.edge_share}: must be above 0 and at most 1")
    settings = UESettings(
        args.token,
        args.port,
        args.host,
        args.model,
        uplink_bps=up_bps,
        downlink_bps=down_bps,
        ue_slowdown=args.ue_slowdown,
        edge_slowdown=1 / args.edge_share,
        stall_s=args.stall_s,
    )
    with contextlib.closing(Executor(args.core, "UE layers")) as executor:
        async with UserEquipment(program, executor, settings) as ue:
            await _queries(ue, inputs, args)


async def _queries(ue: UserEquipment, inputs: Bundle, args: argparse.Namespace) -> None:
    from mjoa_gym.planners import planner_names  # the server needs none of these
    from mjoa_gym.testbed.measure import measure, plan_one, predict

    choice("--planner", args.planner, planner_names())
    dnn, s = ue.program.dnn, ue.settings
    times = await measure(ue, inputs)
    local = await ue.infer(inputs, np.zeros(dnn.n_layers))
    print(f"{args.model}: {times.ue_s.sum():.3f} s on the UE, {times.edge_s.sum():.3f} s at the "
          f"edge without transfers, {1e3 * times.message_s:.1f} ms per message")  # fmt: skip
    for number in range(1, args.queries + 1):
        rates = s.uplink_bps, s.downlink_bps
        instance = times.instance(dnn, *rates, await ue.resident(), args.upload)
        placement, marks = await plan_one(args.planner, instance)
        expected = predict(instance, placement, marks).latency
        if args.upload == "preinstalled":
            with contextlib.suppress(EdgeError):
                await ue.install(list(ue.program.to_upload(placement.tolist())))
        got = await ue.infer(inputs, placement, args.upload, marks, args.until_s)
        here = got.resident @ dnn.parameter_bytes / max(dnn.parameter_bytes.sum(), 1.0)
        print(
            f"query {number}: {int(placement.sum())} of {dnn.n_layers} layers at the edge, "
            f"{got.latency_s:.3f} s ({expected:.3f} s expected), then {here:.0%} of the parameters "
            f"there; outputs {'as' if close(got.outputs, local.outputs) else 'NOT AS'} locally"
        )
        if got.failure is not None:
            print(f"  {got.failure}; {len(got.recovered)} layers executed here instead")


def close(a: object, b: object) -> bool:
    """Whether two results are equal within float tolerance, in whatever structure."""
    from torch.utils import _pytree as pytree

    left, right = pytree.tree_leaves(a), pytree.tree_leaves(b)
    return len(left) == len(right) and all(
        torch.allclose(x, y, rtol=1e-4, atol=1e-5) if isinstance(x, torch.Tensor) else x == y
        for x, y in zip(left, right, strict=True)
    )
