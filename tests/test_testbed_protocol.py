"""Malformed, truncated, oversized, replayed and forged frames: refused, and others are served."""

from __future__ import annotations

import contextlib
import hmac
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
msgpack = pytest.importorskip("msgspec.msgpack")

from mjoa_gym.testbed.frames import (  # noqa: E402
    VERSION,
    FrameWriter,
    Kind,
    ProtocolError,
    encode,
)
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402

from .testbed_frames import HEADERS, HELLO, N, begin, parameters_image, raw  # noqa: E402
from .testbed_helpers import introduce, refusal, run, stranger, toy_server, toy_ue, until  # noqa: E402
from .testbed_network import ToyNetwork, diamond  # noqa: E402

HEADER_OF_ANOTHER_SHAPE = LayeredProgram(ToyNetwork([[-1]], width=32)).parameters[0].header  # type: ignore[union-attr]

WRITTEN: dict[str, tuple[str, Callable[[FrameWriter, LayeredProgram], None]]] = {
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
        "Expected `object`, got `array`",
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
    "HELLO again": ("HELLO at the wrong time", lambda f, p: f.write(Kind.HELLO, HELLO)),
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
    "an unknown mode": ("`$.upload`", lambda f, p: f.write(Kind.BEGIN, begin(upload=4))),
    "a boolean mode": (
        "got `bool` - at `$.upload`",
        lambda f, p: f.write(Kind.BEGIN, begin(upload=True)),
    ),
    "a slowdown below 1": ("`$.slowdown`", lambda f, p: f.write(Kind.BEGIN, begin(slowdown=0.5))),
    "a slowdown that is no number": (
        "`$.slowdown`",
        lambda f, p: f.write(Kind.BEGIN, begin(slowdown=float("nan"))),
    ),
    "an endless slowdown": (
        "`$.slowdown`",
        lambda f, p: f.write(Kind.BEGIN, begin(slowdown=float("inf"))),
    ),
    "no downlink": ("`$.downlink_bps`", lambda f, p: f.write(Kind.BEGIN, begin(downlink_bps=0))),
}


def within(kind: Kind, header: dict[str, Any], payload: Callable[[LayeredProgram], bytes]) -> Any:
    """BEGIN with everything at the edge, then one frame."""
    return lambda f, p: (f.write(Kind.BEGIN, begin()), f.write(kind, header, payload(p)))


WITHIN: dict[str, tuple[str, Callable[[FrameWriter, LayeredProgram], None]]] = {
    "a layer that is not there": (
        "layer=7",
        within(Kind.PARAMETERS, {"layer": 7, "offset": 0}, lambda p: b"x"),
    ),
    "a huge layer": (
        "layer=9223372036854775807",
        within(Kind.PARAMETERS, {"layer": 2**63 - 1, "offset": 0}, lambda p: b"x"),
    ),
    "a layer that is a text": (
        "got `str` - at `$.layer`",
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
        "`$.offset`",
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
    program = LayeredProgram(network)
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as good:
            assert (await good.infer((value,), [0, 1, 1, 1, 0, 1, 1])).failure is None
            async with stranger(server.port, program) as (reader, frames):
                write(frames, program)
                assert expected in await refusal(reader)
            await until(lambda: len(server.sessions) == 1)
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
        ({"proof": b""}, "`$.proof`"),
        ({"proof": "text"}, "`$.proof`"),
        ({"version": VERSION + 1}, "version"),
        ({"model": "../../etc/passwd"}, "is unknown"),
        ({"model": "x" * 1000}, "`$.model`"),
        ({"model": 3}, "`$.model`"),
        ({"fingerprint": "0" * 64}, "differs from the server's"),
        ({"fingerprint": "é"}, "differs from the server's"),
    ],
)
def test_who_introduces_itself_badly_is_refused(changes: dict[str, Any], expected: str) -> None:
    async def main() -> None:
        async with toy_server() as server:
            async with stranger(server.port) as (reader, frames):
                await introduce(reader, frames, LayeredProgram(diamond()), **changes)
                assert expected in await refusal(reader)
            await until(lambda: len(server.sessions) == 0)

    run(main())


def test_a_proof_is_good_for_one_connection() -> None:
    program = LayeredProgram(diamond())

    async def main() -> None:
        async with toy_server() as server:
            async with stranger(server.port) as (reader, frames):
                overheard = await reader.read()
                assert overheard is not None
            proof = hmac.digest(b"a secret", overheard.header.nonce, "sha256")
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
    program = LayeredProgram(network)

    async def silence() -> None:
        async with toy_server(hello_s=0.05) as server, stranger(server.port) as (reader, _):
            assert "nothing heard" in await refusal(reader)

    async def idleness() -> None:
        async with toy_server(idle_s=0.05) as server:
            async with stranger(server.port, program) as (reader, _):
                assert "nothing heard" in await refusal(reader)
            await until(lambda: len(server.sessions) == 0)

    async def sessions() -> None:
        async with (
            toy_server(sessions=1) as server,
            stranger(server.port, program),
            stranger(server.port) as (reader, frames),
        ):
            await introduce(reader, frames, program)
            assert await refusal(reader) == "too many sessions"

    async def size() -> None:
        async with (
            toy_server(model_bytes=1000) as server,
            stranger(server.port) as (reader, frames),
        ):
            await introduce(reader, frames, program)
            assert "at most 1000 are allowed" in await refusal(reader)

    async def activations() -> None:
        value = torch.randn(1, network.width)
        async with toy_server(query_bytes=1000) as server, toy_ue(server.port, network) as ue:
            got = await ue.infer((value,), [1] * N)
            assert got.failure is not None
            assert "1000 are allowed" in got.failure
            assert all(map(torch.equal, got.outputs, network.expected(value)))
            assert (await ue.infer((value,), [0] * 6 + [1])).failure is None  # still connected

    async def payload() -> None:
        async with (
            toy_server(payload_bytes=100) as server,
            stranger(server.port, program) as (reader, frames),
        ):
            frames.write(Kind.BEGIN, begin())
            frames.write(Kind.PARAMETERS, {"layer": 0, "offset": 0}, bytes(101))
            assert "at most 100 are allowed" in await refusal(reader)

    for case in (silence, idleness, sessions, size, activations, payload):
        run(case())


def unpacked(kind: Kind, header: dict[Any, Any]) -> Any:
    return kind.header(msgpack.encode(header))


def test_every_kind_of_frame_is_read_as_it_was_written() -> None:
    assert set(HEADERS) == set(Kind)
    for kind, header in HEADERS.items():
        assert msgpack.decode(msgpack.encode(unpacked(kind, header))) == header


@pytest.mark.parametrize("kind", list(Kind))
def test_fields_that_are_missing_unknown_or_of_another_type_are_named(kind: Kind) -> None:
    header = HEADERS[kind]
    with pytest.raises(ProtocolError, match=f"^{kind.name}: .*unknown field `more`"):
        unpacked(kind, header | {"more": 1})
    for field in header:
        with pytest.raises(ProtocolError, match=f"^{kind.name}: .*required field `{field}`"):
            unpacked(kind, {key: value for key, value in header.items() if key != field})
        for value in (None, True, {}, [[[]]], -2, b"x" * 9000, "x" * 5000):
            with pytest.raises(ProtocolError, match=rf"^{kind.name}: .*`\$\.{field}"):
                unpacked(kind, header | {field: value})


HUGE, NAN, INF = 2**64 - 1, float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "changes", "where"),
    [
        (Kind.HELLO, {"version": VERSION + 1}, "version"),
        (Kind.HELLO, {"model": "x" * 257}, "model"),
        (Kind.HELLO, {"proof": bytes(33)}, "proof"),
        (Kind.BEGIN, {"placement": bytes(8193)}, "placement"),
        (Kind.BEGIN, {"slowdown": HUGE}, "slowdown"),
        (Kind.BEGIN, {"slowdown": -INF}, "slowdown"),
        (Kind.BEGIN, {"downlink_bps": NAN}, "downlink_bps"),
        (Kind.TENSOR, {"offset": 0.5}, "offset"),
        (Kind.TENSOR, {"layer": 1.0}, "layer"),
        (Kind.ERROR, {"reason": "x" * 4097}, "reason"),
        (Kind.GREETING, {"nonce": bytes(31)}, "nonce"),
        (Kind.READY, {"payload": 0}, "payload"),
        (Kind.READY, {"payload": HUGE}, "payload"),
        (Kind.STARTED, {"now": NAN}, "now"),
        (Kind.STARTED, {"now": INF}, "now"),
        (Kind.STARTED, {"now": -1.0}, "now"),
        (Kind.RESIDENT, {"bytes": [0] * 8193}, "bytes"),
        (Kind.RESIDENT, {"bytes": [0, 0.0]}, r"bytes\[1\]"),
        (Kind.REPORT, {"executed": [[0, NAN, 1.0]]}, r"executed\[0\]\[1\]"),
        (Kind.REPORT, {"executed": [[0, 0.0, INF]]}, r"executed\[0\]\[2\]"),
        (Kind.REPORT, {"sent": [[0, 0.0, 1.0], [0, 1.0]]}, r"sent\[1\]"),
        (Kind.REPORT, {"sent": [[0.5, 0.0, 1.0]]}, r"sent\[0\]\[0\]"),
        (Kind.HEARTBEAT, {"got": -1}, "got"),
    ],
)
def test_values_out_of_bounds_are_refused_by_their_names(
    kind: Kind, changes: dict[str, Any], where: str
) -> None:
    with pytest.raises(ProtocolError, match=rf"^{kind.name}: .*`\$\.{where}`"):
        unpacked(kind, HEADERS[kind] | changes)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        struct.pack("!BI", 0xDF, 2**32 - 1),  # a map without an end
        b"\x81\x01\x02",  # a number as key
        b"\x81\xa2\xff\xfe\x01",  # no UTF-8
        b"\x81\xa6reason\xa2\xff\xfe",
        b"\x81\xa6reason\xdb\xff\xff\xff\xff",  # a text without an end
        b"\x81\xa6reason\xd6\xff\0\0\0\0",  # an extension's type
        b"\x81\xa6reason" + b"\x91" * 60_000,
        b"\x81\xa1a" + b"\x81\xa1a" * 20_000,
        b"\x81\xa6reason\xa1x" + b"\x80",  # something behind it
        msgpack.encode({"x" * 60_000: 1}),
    ],
)
def test_headers_that_are_none_are_refused_in_a_few_words(packed: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^ERROR: a header cannot be read: ") as refused:
        Kind.ERROR.header(packed)
    assert len(str(refused.value)) < 300


def test_random_headers_are_refused_or_in_bounds() -> None:
    generator = random.Random(0)
    for kind, header in HEADERS.items():
        packed = msgpack.encode(header)
        for _ in range(300):
            data = bytearray(packed)
            for _ in range(generator.randint(1, 3)):
                data[generator.randrange(len(data))] = generator.randrange(256)
            with contextlib.suppress(ProtocolError):
                read = kind.header(bytes(data))
                assert type(read) is type(unpacked(kind, header))


def test_a_header_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="too many"):
        encode(Kind.BEGIN, 0, {"a": bytes(70000)})  # type: ignore[arg-type]
