"""The command line of the testbed: `mjoa-gym testbed server | ue | watch | certificate`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mjoa_gym.execution.layered_model import Bundle
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.testbed import clock
from mjoa_gym.testbed.connection import KEEP_ALIVE_S, EdgeError
from mjoa_gym.testbed.controller import COMPUTE, GRANTED_MODES, ControllerSettings
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import Profile
from mjoa_gym.testbed.models import model_names, program_of, server_program
from mjoa_gym.testbed.participant import Participant
from mjoa_gym.testbed.processes import TOKEN_VARIABLE, available_cores
from mjoa_gym.testbed.server import EdgeServer
from mjoa_gym.testbed.settings import ServerSettings, UESettings, port_number
from mjoa_gym.testbed.tls import client_context, make_certificate
from mjoa_gym.testbed.ue import Pacing, UserEquipment
from mjoa_gym.testbed.watcher import Watcher
from mjoa_gym.validation import choice, count, positive, positive_or_inf

DEFAULT_PORT, PAGE_PORT = 4790, 4791
MEGA = 1e6
KIB, MIB = 1 << 10, 1 << 20
SIZES = {
    "memory_bytes": ("--memory-mib", MIB, "largest size of the parameters that are kept"),
    "ue_memory_bytes": ("--ue-memory-mib", MIB, "largest size of the parameters kept from one UE"),
    "model_bytes": ("--model-mib", MIB, "largest size of a network's parameters"),
    "query_bytes": ("--activations-mib", MIB, "largest size of one inference's tensors"),
    "activation_bytes": ("--all-activations-mib", MIB, "largest size of all inferences' tensors"),
    "payload_bytes": ("--frame-kib", KIB, "longest payload of a frame"),
}
"""For each field of `ServerSettings` that is a size: its option, the option's unit and its help."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="mjoa-gym testbed", description="Execute a plan on two real processes."
    )
    sides = parser.add_subparsers(dest="side", required=True)
    server = sides.add_parser("server", help="run the edge server")
    ue = sides.add_parser("ue", help="run a UE")
    watch = sides.add_parser(
        "watch", help="serve a web page that shows what a server with a controller does"
    )
    for side in (server, ue, watch):
        add = side.add_argument
        add("--host", default=UESettings.host, help="the server's address (default %(default)s)")
        add("--port", type=int, default=DEFAULT_PORT,
            help="the server's port (default %(default)s)")  # fmt: skip
        add("--token", default=os.environ.get(TOKEN_VARIABLE, ""),
            help=f"shared secret (default: the environment variable {TOKEN_VARIABLE})")  # fmt: skip
        add("--certificate", type=Path, metavar="FILE",
            help="the server's certificate for TLS, which is needed beyond loopback")  # fmt: skip
    for side in (server, ue):
        add = side.add_argument
        add("--core", type=int, help="core that executes layers (default: any)")
        add("--program", action="append", default=[], metavar="NAME=FILE",
            help="an exported program (.pt2) and the name that both sides use for it")  # fmt: skip
    certificate = sides.add_parser("certificate", help="make a certificate and its key, for TLS")
    watch.add_argument("--page-port", type=int, default=PAGE_PORT,
                       help="port of the page, on loopback (default %(default)s)")  # fmt: skip
    _add_certificate(certificate)
    _add_server(server)
    _add_control(server)
    _add_ue(ue)
    return parser


def _add_certificate(certificate: argparse.ArgumentParser) -> None:
    add = certificate.add_argument
    add("--out", type=Path, default=Path(),
        help="folder to write both to (default: the current one)")  # fmt: skip
    add("--host", action="append", default=[],
        help="a name or address of the server, besides localhost; may be repeated")  # fmt: skip


def _add_server(server: argparse.ArgumentParser) -> None:
    add = server.add_argument
    add("--key", type=Path, metavar="FILE", help="the certificate's key")
    add("--models", nargs="*", metavar="NAME",
        help="torchvision classifiers that UEs may use (default: all)")  # fmt: skip
    add("--sessions", type=int, default=ServerSettings.sessions,
        help="largest number of UEs at a time (default %(default)s)")  # fmt: skip
    for field, (option, unit, said) in SIZES.items():
        default = getattr(ServerSettings, field) // unit
        add(option, dest=field, type=int, default=default, metavar=option[-3:].upper(),
            help=f"{said} (default %(default)s)")  # fmt: skip
    add("--idle-s", type=float, default=ServerSettings.idle_s,
        help="seconds after which a silent UE is disconnected (default %(default)s)")  # fmt: skip
    add("--verbose", action="store_true", help="log why each session ends")


def _add_ue(ue: argparse.ArgumentParser) -> None:
    add = ue.add_argument
    add(
        "--model",
        help="a torchvision classifier or the name of a --program (default: the only --program, "
        "else resnet18)",
    )
    add("--planner", default="mjoa-mu", help="planner that places the layers (default %(default)s)")
    add("--upload", default="parallel", choices=UPLOAD_MODES,
        help="upload mode (default %(default)s)")  # fmt: skip
    add("--uplink-mbps", type=float,
        help="the uplink's rate in Mbit/s (default 50; with --controlled the cell's)")  # fmt: skip
    add("--downlink-mbps", type=float,
        help="the downlink's rate in Mbit/s (default: the uplink's)")  # fmt: skip
    add("--ue-slowdown", type=float, default=10.0,
        help="how many times slower than this machine the UE is (default %(default)s)")  # fmt: skip
    add("--edge-share", type=float, default=1.0,
        help="this UE's share of the server (default %(default)s)")  # fmt: skip
    add("--queries", type=int, default=3,
        help="number of inferences, one after the other (default %(default)s)")  # fmt: skip
    add("--until-s", type=float,
        help="prefetch until this many seconds after the start of each inference")  # fmt: skip
    add("--stall-s", type=float, default=UESettings.stall_s,
        help="seconds for which the server may be silent, or accept no data, before the UE "
        "continues by itself (default %(default)s)")  # fmt: skip
    add("--busy", type=float, default=UESettings.busy,
        help="part of a layer's stretched time in which the UE executes it "
        "(default %(default)s)")  # fmt: skip
    add("--paced", action="store_true",
        help="count layers with their first measured times, for noisy machines")  # fmt: skip
    controlled = ue.add_argument_group("a server with a controller")
    add = controlled.add_argument
    add("--controlled", action="store_true", help="take part in the controller's rounds")
    add("--weight", type=float, default=1.0,
        help="weight of this UE's latency (default %(default)s)")  # fmt: skip
    add("--deadline-s", type=float, default=float("inf"),
        help="seconds within which this UE wants its results (default: no deadline)")  # fmt: skip
    add("--share", action="store_true",
        help="share equal layers with other UEs, by the digests of their parameters")  # fmt: skip


CONTROL: dict[str, tuple[str, float, str]] = {
    "uplink_bps": ("--cell-mbps", MEGA, "the cell's rate towards the edge, Mbit/s"),
    "downlink_bps": ("--cell-downlink-mbps", MEGA, "the cell's rate towards the UEs, Mbit/s"),
    "budget_s": ("--budget-s", 1, "seconds that the planner may take for a round"),
    "period_s": ("--period-s", 1, "shortest duration of a round in seconds"),
    "patience": ("--patience", 1, "a UE may take this many times its planned latency"),
    "patience_s": ("--patience-s", 1, "or this many seconds more than planned, if that is longer"),
    "gather_s": ("--gather-s", 1, "seconds to wait for UEs of the last round"),
    "most_weight": ("--most-weight", 1, "largest weight that a UE may have"),
    "most_share": ("--most-share", 1, "largest share that one of several UEs may have"),
}
"""For fields of `ControllerSettings` that are numbers: the option, its unit and its help."""


def _add_control(server: argparse.ArgumentParser) -> None:
    add = server.add_argument_group("a controller").add_argument
    add("--controller", metavar="PLANNER",
        help="plan for all UEs with this planner: its name, module:callable, "
        "file.py:callable or the folder of a trained agent")  # fmt: skip
    for field, (option, unit, said) in CONTROL.items():
        default = getattr(ControllerSettings, field) / unit
        add(option, dest=field, type=float, default=default, help=f"{said} (default %(default)g)")
    add("--upload", default=ControllerSettings.upload, choices=GRANTED_MODES,
        help="upload mode of all inferences (default %(default)s)")  # fmt: skip
    add("--compute", default=ControllerSettings.compute, choices=COMPUTE,
        help="how layers of several UEs share the server (default %(default)s)")  # fmt: skip
    add("--first", type=int, default=ControllerSettings.first,
        help="number of UEs to wait for before rounds begin (default %(default)s)")  # fmt: skip
    add("--share", action="store_true",
        help="keep equal layers once, for all UEs that know their digests")  # fmt: skip
    add("--slowdown", type=float, default=ServerSettings.slowdown,
        help="how many times slower than this machine the server is "
        "(default %(default)s)")  # fmt: skip
    add("--journal", type=Path, metavar="FILE",
        help="append what happens to this file, as lines of JSON")  # fmt: skip
    add("--unwatched", action="store_true", help="let nobody watch, not even with the token")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    args = parser().parse_args(argv)
    if args.side == "certificate":
        for file in make_certificate(args.out, args.host):
            print(file)
        return 0
    if not args.token:
        print(f"mjoa-gym testbed: --token or {TOKEN_VARIABLE} is needed", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    try:
        if args.side == "watch":
            clock.run(_watch(args))
            return 0
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
            raise ValueError(f"--program {text!r}: {name} already stands for {files[name]}")
        files[name] = Path(file)
    return files


async def _serve(args: argparse.Namespace, files: dict[str, Path]) -> None:
    if not args.idle_s > KEEP_ALIVE_S:
        raise ValueError(
            f"--idle-s {args.idle_s}: must be above {KEEP_ALIVE_S:g}, the seconds between a UE's "
            "signs of life"
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
        args.token, args.host, args.port, args.core, idle_s=args.idle_s, slowdown=args.slowdown,
        certificate=args.certificate, key=args.key, **limits,
    )  # fmt: skip
    control = None
    if args.controller is None:
        for option in ("share", "journal", "unwatched"):
            if getattr(args, option):
                raise ValueError(f"--{option}: only with --controller")
    else:
        given = {field: getattr(args, field) * unit for field, (_, unit, _) in CONTROL.items()}
        control = ControllerSettings(
            args.controller, upload=args.upload, compute=args.compute, first=args.first,
            share=args.share,
            watched=not args.unwatched, **given,
        )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        listener = _journal(args.journal, stack)
        server = await stack.enter_async_context(EdgeServer(settings, builders, control, listener))
        print(f"listening on {args.host}:{server.port}", flush=True)
        await _told_to_end().wait()


def _told_to_end() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


async def _watch(args: argparse.Namespace) -> None:
    """Serve the page until a signal ends the process, or until the server cannot be watched."""
    settings = UESettings(args.token, args.port, args.host, certificate=args.certificate)
    async with Watcher(settings, port_number("--page-port", args.page_port)) as watcher:
        watching = asyncio.create_task(watcher.run())
        ended = asyncio.create_task(_told_to_end().wait())
        connected = asyncio.create_task(watcher.connected.wait())
        tasks = (watching, ended, connected)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if connected.done():
            print(f"open {watcher.address}", flush=True)
            await asyncio.wait((watching, ended), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _journal(
    path: Path | None, stack: contextlib.AsyncExitStack
) -> Callable[[dict[str, Any]], None]:
    """Return a function that appends events to a file as lines of JSON.

    Without a path, the function ignores them. `stack` closes the file.
    """
    if path is None:
        return lambda _: None
    file = stack.enter_context(path.open("a", encoding="utf-8"))

    def listen(event: dict[str, Any]) -> None:
        file.write(json.dumps(event) + "\n")
        file.flush()

    return listen


async def _use(args: argparse.Namespace, files: dict[str, Path]) -> None:
    count("--queries", args.queries)
    if args.until_s is not None:
        positive("--until-s", args.until_s)
    positive("--weight", args.weight)
    positive_or_inf("--deadline-s", args.deadline_s)
    if args.certificate is not None:
        client_context(args.certificate)  # raises now if the file is no certificate
    if args.model is None:
        args.model = next(iter(files)) if len(files) == 1 else "resnet18"
    program, inputs = program_of(args.model, files)
    unlimited = float("inf") if args.controlled else 50.0
    up_bps = (unlimited if args.uplink_mbps is None else args.uplink_mbps) * MEGA
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
        busy=args.busy,
        certificate=args.certificate,
    )
    with contextlib.closing(Executor(args.core, "UE layers")) as executor:
        async with UserEquipment(program, executor, settings) as ue:
            await (_rounds if args.controlled else _queries)(ue, inputs, args)


async def _queries(ue: UserEquipment, inputs: Bundle, args: argparse.Namespace) -> None:
    from mjoa_gym.planners import planner_names  # here, because the server needs none of these
    from mjoa_gym.testbed.measure import measure, plan_one, predict

    choice("--planner", args.planner, planner_names())
    dnn, s = ue.program.dnn, ue.settings
    times = await measure(ue, inputs, paced=args.paced)
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


async def _rounds(ue: UserEquipment, inputs: Bundle, args: argparse.Namespace) -> None:
    """Take part in rounds of the server's controller and print what each gave."""
    from mjoa_gym.testbed.measure import measure_message, measure_ue

    dnn, s = ue.program.dnn, ue.settings
    local = await ue.infer(inputs, np.zeros(dnn.n_layers))
    ue_s = (await measure_ue(ue, inputs, repeats=3)).tolist()
    if args.paced:
        ue.pacing = Pacing(ue_s)
    profile = Profile(
        ue_s, [], s.uplink_bps, s.downlink_bps, await measure_message(ue), args.weight,
        args.deadline_s, int(args.paced), ue.digests() if args.share else [],
    )  # fmt: skip
    participant = Participant(ue, profile)
    print(f"{args.model}: {sum(ue_s):.3f} s on the UE", flush=True)
    for _ in range(args.queries):
        taken = await participant.round(inputs)
        got, grant = taken.inference, taken.grant
        name = "no round" if grant is None else f"round {grant.round}"
        expected = sum(ue_s) if grant is None else grant.predicted_s
        at_edge = 0 if grant is None else sum(grant.placement)
        print(
            f"{name}: {at_edge} of {dnn.n_layers} layers at the edge, {got.latency_s:.3f} s "
            f"({expected:.3f} s expected); "
            f"outputs {'as' if close(got.outputs, local.outputs) else 'NOT AS'} locally",
            flush=True,
        )
        if got.failure is not None:
            print(f"  {got.failure}; {len(got.recovered)} layers executed here instead", flush=True)
        if got.overruns:
            print(f"  {got.overruns} paced layers were late", flush=True)


def close(a: object, b: object) -> bool:
    """Return whether two results are equal within float tolerance, whatever their structure."""
    from torch.utils import _pytree as pytree

    left, right = pytree.tree_leaves(a), pytree.tree_leaves(b)
    return len(left) == len(right) and all(
        torch.allclose(x, y, rtol=1e-4, atol=1e-5) if isinstance(x, torch.Tensor) else x == y
        for x, y in zip(left, right, strict=True)
    )
