"""Malformed, truncated, oversized, replayed and forged frames: refused, and others are served."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgpack")

from mjoa_gym.testbed.frames import (  # noqa: E402
    VERSION,
    FrameLimits,
    FrameWriter,
    Kind,
    ProtocolError,
    decode_header,
    encode,
)
from mjoa_gym.testbed.program import Program  # noqa: E402
from mjoa_gym.testbed.session import SessionLimits  # noqa: E402

from .testbed_frames import N, begin, parameters_image, raw  # noqa: E402
from .testbed_helpers import introduce, refusal, run, stranger, toy_server, toy_ue, until  # noqa: E402
from .testbed_network import ToyNetwork, diamond  # noqa: E402

HEADER_OF_ANOTHER_SHAPE = Program(ToyNetwork([[-1]], width=32)).parameters[0].header  # type: ignore[union-attr]

WRITTEN: dict[str, tuple[str, Callable[[FrameWriter, Program], None]]] = {
    "unknown kind": ("no frame has kind 99", lambda f, p: f.writer.write(raw(99, 1, b"\x80"))),
    "the server's kind": (
        "does not come from this side",
        lambda f, p: f.writer.write(raw(Kind.REPORT, 1, b"\x80")),
    ),
    "replayed": ("sequence number", lambda f, p: f.writer.write(raw(Kind.STATE, 0, b"\x80"))),
    "skipped": ("sequence number", lambda f, p: f.writer.write(raw(Kind.STATE, 7, b"\x80"))),
    "oversized payload": (
        "a payload of",
        lambda f, p: f.writer.write(raw(Kind.TENSOR, 1, b"\x80", payload_bytes=2**32 - 1)),
    ),
    "not MessagePack": (
        "a header cannot be read",
        lambda f, p: f.writer.write(raw(Kind.STATE, 1, b"\xc1\xc1")),
    ),
    "not a map": (
        "a header must be a map",
        lambda f, p: f.writer.write(raw(Kind.STATE, 1, b"\x90")),
    ),
    "an endless list": (
        "a header cannot be read",
        lambda f, p: f.writer.write(raw(Kind.STATE, 1, b"\x81\xa1a\xdd\xff\xff\xff\xff")),
    ),
    "nested lists": (
        "a header cannot be read",
        lambda f, p: f.writer.write(raw(Kind.STATE, 1, b"\x81\xa1a" + b"\x91" * 5000 + b"\x90")),
    ),
    "HELLO again": ("HELLO at the wrong time", lambda f, p: f.write(Kind.HELLO, {})),
    "END without a query": ("END without a query", lambda f, p: f.write(Kind.END)),
    "PARAMETERS without a query": (
        "without a query",
        lambda f, p: f.write(Kind.PARAMETERS, {"layer": 0, "offset": 0}, b"x"),
    ),
    "BEGIN twice": (
        "BEGIN within a query",
        lambda f, p: (f.write(Kind.BEGIN, begin()), f.write(Kind.BEGIN, begin())),
    ),
    "a short placement": (
        "placement: 7 bytes are needed",
        lambda f, p: f.write(Kind.BEGIN, begin(placement=b"\1")),
    ),
    "a placement of 2": (
        "must be 0 or 1",
        lambda f, p: f.write(Kind.BEGIN, begin(placement=b"\2" * N)),
    ),
    "no placement": ("placement", lambda f, p: f.write(Kind.BEGIN, {})),
    "an unknown mode": ("upload=4", lambda f, p: f.write(Kind.BEGIN, begin(upload=4))),
    "a boolean mode": ("upload=True", lambda f, p: f.write(Kind.BEGIN, begin(upload=True))),
    "a slowdown below 1": ("slowdown=0", lambda f, p: f.write(Kind.BEGIN, begin(slowdown=0.5))),
    "a slowdown that is no number": (
        "slowdown=nan",
        lambda f, p: f.write(Kind.BEGIN, begin(slowdown=float("nan"))),
    ),
    "an endless slowdown": (
        "slowdown=inf",
        lambda f, p: f.write(Kind.BEGIN, begin(slowdown=float("inf"))),
    ),
    "no downlink": ("downlink_bps=0", lambda f, p: f.write(Kind.BEGIN, begin(downlink_bps=0))),
}


def within(kind: Kind, header: dict[str, Any], payload: Callable[[Program], bytes]) -> Any:
    """BEGIN with everything at the edge, then one frame."""
    return lambda f, p: (f.write(Kind.BEGIN, begin()), f.write(kind, header, payload(p)))


WITHIN: dict[str, tuple[str, Callable[[FrameWriter, Program], None]]] = {
    "a layer that is not there": (
        "layer=7",
        within(Kind.PARAMETERS, {"layer": 7, "offset": 0}, lambda p: b"x"),
    ),
    "a huge layer": (
        "layer=9223372036854775807",
        within(Kind.PARAMETERS, {"layer": 2**63 - 1, "offset": 0}, lambda p: b"x"),
    ),
    "a layer that is a text": (
        "layer='0'",
        within(Kind.PARAMETERS, {"layer": "0", "offset": 0}, lambda p: b"x"),
    ),
    "a layer without parameters": (
        "layer 3 has none",
        within(Kind.PARAMETERS, {"layer": 3, "offset": 0}, lambda p: b"x"),
    ),
    "a shape that is another": (
        "names, shapes or types",
        within(Kind.PARAMETERS, {"layer": 0, "offset": 0}, lambda p: HEADER_OF_ANOTHER_SHAPE),
    ),
    "a type that is another": (
        "names, shapes or types",
        within(
            Kind.PARAMETERS,
            {"layer": 0, "offset": 0},
            lambda p: parameters_image(p, 0).replace(b"F32", b"I32"),
        ),
    ),
    "a name that is another": (
        "names, shapes or types",
        within(
            Kind.PARAMETERS,
            {"layer": 0, "offset": 0},
            lambda p: parameters_image(p, 0).replace(b"layer0", b"layer1"),
        ),
    ),
    "bytes before others": (
        "come next",
        within(Kind.PARAMETERS, {"layer": 0, "offset": 64}, lambda p: b"x" * 64),
    ),
    "more bytes than there are": (
        "come next",
        within(
            Kind.PARAMETERS, {"layer": 0, "offset": 0}, lambda p: parameters_image(p, 0) + b"xxxx"
        ),
    ),
    "no bytes": ("come next", within(Kind.PARAMETERS, {"layer": 0, "offset": 0}, lambda p: b"")),
    "a negative offset": (
        "offset=-1",
        within(Kind.PARAMETERS, {"layer": 0, "offset": -1}, lambda p: b"x"),
    ),
    "a tensor of the server's": (
        "is not one that this query sends",
        within(Kind.TENSOR, {"layer": 2, "offset": 0}, lambda p: b"x"),
    ),
    "an input of another shape": (
        "names, shapes or types",
        within(Kind.TENSOR, {"layer": -1, "offset": 0}, lambda p: HEADER_OF_ANOTHER_SHAPE),
    ),
}


@pytest.mark.parametrize("case", [*WRITTEN, *WITHIN])
def test_a_bad_frame_closes_its_connection_with_the_reason_and_nobody_elses(case: str) -> None:
    expected, write = (WRITTEN | WITHIN)[case]
    network = diamond()
    program = Program(network)
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as good:
            assert (await good.infer((value,), [0, 1, 1, 1, 0, 1, 1])).failure is None
            async with stranger(server.port, program) as (reader, frames):
                write(frames, program)
                assert expected in await refusal(reader)
            await until(lambda: server.n_sessions == 1)
            assert server.store.used_bytes == sum(
                program.parameters[layer].total_bytes for layer in (1, 2, 5, 6)
            )
            again = await good.infer((value,), [1] * N)
            assert again.failure is None
            assert all(map(torch.equal, again.outputs, network.expected(value)))

    run(main())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"proof": bytes(32)}, "wrong token"),
        ({"proof": b""}, "proof: 32 bytes are needed"),
        ({"proof": "text"}, "proof: 32 bytes are needed"),
        ({"version": VERSION + 1}, "version"),
        ({"model": "../../etc/passwd"}, "is unknown"),
        ({"model": "x" * 1000}, "a text is needed"),
        ({"model": 3}, "a text is needed"),
        ({"fingerprint": "0" * 64}, "another one"),
        ({"fingerprint": "é"}, "another one"),
    ],
)
def test_who_introduces_itself_badly_is_refused(changes: dict[str, Any], expected: str) -> None:
    async def main() -> None:
        async with toy_server() as server:
            async with stranger(server.port) as (reader, frames):
                await introduce(reader, frames, Program(diamond()), **changes)
                assert expected in await refusal(reader)
            await until(lambda: server.n_sessions == 0)

    run(main())


def test_a_proof_is_good_for_one_connection() -> None:
    program = Program(diamond())

    async def main() -> None:
        async with toy_server() as server:
            async with stranger(server.port) as (reader, frames):
                overheard = await reader.read()
                assert overheard is not None
            proof = hmac.digest(b"a secret", overheard.header["nonce"], "sha256")
            async with stranger(server.port) as (reader, frames):
                await introduce(reader, frames, program, proof=proof)
                assert "wrong token" in await refusal(reader)

    run(main())


def test_a_frame_before_hello_is_refused() -> None:
    async def main() -> None:
        async with toy_server() as server, stranger(server.port) as (reader, frames):
            frames.write(Kind.STATE)
            assert "STATE before HELLO" in await refusal(reader)

    run(main())


def test_limits_on_silence_sessions_models_and_activations() -> None:
    network = diamond()
    program = Program(network)

    async def silence() -> None:
        limits = SessionLimits(hello_s=0.05)
        async with toy_server(limits=limits) as server, stranger(server.port) as (reader, _):
            assert "nothing heard" in await refusal(reader)

    async def idleness() -> None:
        limits = SessionLimits(idle_s=0.05)
        async with toy_server(limits=limits) as server:
            async with stranger(server.port, program) as (reader, _):
                assert "nothing heard" in await refusal(reader)
            await until(lambda: server.n_sessions == 0)

    async def sessions() -> None:
        async with (
            toy_server(sessions=1) as server,
            stranger(server.port, program),
            stranger(server.port) as (reader, frames),
        ):
            await introduce(reader, frames, program)
            assert await refusal(reader) == "too many sessions"

    async def size() -> None:
        limits = SessionLimits(model_bytes=1000)
        async with toy_server(limits=limits) as server, stranger(server.port) as (reader, frames):
            await introduce(reader, frames, program)
            assert "at most 1000 are allowed" in await refusal(reader)

    async def activations() -> None:
        limits = SessionLimits(activation_bytes=1000)
        value = torch.randn(1, network.width)
        async with toy_server(limits=limits) as server, toy_ue(server.port, network) as ue:
            got = await ue.infer((value,), [1] * N)
            assert got.failure is not None
            assert "1000 are allowed" in got.failure
            assert all(map(torch.equal, got.outputs, network.expected(value)))
            assert (await ue.infer((value,), [0] * 6 + [1])).failure is None  # still connected

    async def payload() -> None:
        limits = SessionLimits(frame=FrameLimits(payload_bytes=100))
        async with (
            toy_server(limits=limits) as server,
            stranger(server.port, program) as (reader, frames),
        ):
            frames.write(Kind.BEGIN, begin())
            frames.write(Kind.PARAMETERS, {"layer": 0, "offset": 0}, bytes(101))
            assert "at most 100 are allowed" in await refusal(reader)

    for case in (silence, idleness, sessions, size, activations, payload):
        run(case())


def test_headers_are_bounded_and_typed() -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        decode_header(struct.pack("!BI", 0xDF, 2**32 - 1))
    with pytest.raises(ProtocolError, match="cannot be read"):
        decode_header(b"\x81\x01\x02")  # a number as key
    with pytest.raises(ValueError, match="too many"):
        encode(Kind.BEGIN, 0, {"a": bytes(70000)})
