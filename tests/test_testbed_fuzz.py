"""Sessions with something wrong in them, picked at random: no harm, and others are served."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from mjoa_gym.testbed.frames import (  # noqa: E402
    FROM_UE,
    PREFIX,
    VERSION,
    Chunk,
    FrameReader,
    FrameWriter,
    Greeting,
    Header,
    Heartbeat,
    Kind,
    OneLayer,
    QueryReport,
    Ready,
    Reason,
    ResidentBytes,
    Started,
    encode,
)
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402

from .testbed_frames import N, begin, parameters_image, raw  # noqa: E402
from .testbed_helpers import run, stranger, toy_server, toy_ue, until  # noqa: E402
from .testbed_network import diamond  # noqa: E402


def recorded_frames(program: LayeredProgram) -> list[bytes]:
    """What a UE sends that runs everything at the edge."""
    frames = [encode(Kind.BEGIN, 1, begin())]
    image = program.tensors[-1].header + bytes(4 * 64)
    frames.append(encode(Kind.TENSOR, 2, {"layer": -1, "offset": 0}, image) + image)
    for layer in range(N):
        if program.parameters[layer] is not None:
            payload = parameters_image(program, layer)
            head = encode(Kind.PARAMETERS, len(frames) + 1, {"layer": layer, "offset": 0}, payload)
            frames.append(head + payload)
    frames.append(encode(Kind.END, len(frames) + 1, {}))
    return frames


def mangled(frames: list[bytes], generator: random.Random) -> bytes:
    """The frames with one thing wrong."""
    frames = list(frames)
    k = generator.randrange(len(frames))
    what = generator.randrange(5)
    if what == 0:
        frames.insert(k, frames[generator.randrange(len(frames))])
    elif what == 1:
        del frames[k]
    elif what == 2:
        frames[k] = frames[k][: generator.randrange(len(frames[k]))]
    else:  # the beginnings of frames are what is interpreted
        data = bytearray(frames[k])
        for _ in range(generator.randint(1, 4)):
            near = generator.random() < 0.8
            position = generator.randrange(min(len(data), 60) if near else len(data))
            data[position] = generator.randrange(256)
        frames[k] = bytes(data)
    return b"".join(frames)


def test_fuzzed_sessions_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    network = diamond()
    program = LayeredProgram(network)
    generator = random.Random(0)
    value = torch.randn(1, network.width)

    async def attack(port: int) -> None:
        async with stranger(port, program) as (reader, frames):
            data = mangled(recorded_frames(program), generator)
            cut = generator.randrange(len(data))
            frames.writer.write(data[:cut])
            await asyncio.sleep(0)
            frames.writer.write(data[cut:])
            frames.writer.write_eof()
            try:
                while await reader.read() is not None:
                    pass
            except ConnectionError:
                pass

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as good:
            for _ in range(100):
                await asyncio.gather(*(attack(server.port) for _ in range(5)))
                got = await good.infer((value,), [generator.randrange(2) for _ in range(N)])
                assert got.failure is None
                assert all(map(torch.equal, got.outputs, network.expected(value)))
            await until(lambda: len(server.sessions) == 1)
            await good.close()
            await until(lambda: len(server.sessions) == 0)
            assert server.store.used_bytes == 0

    with caplog.at_level(logging.ERROR):
        run(main())
    assert not caplog.records


def test_bytes_that_are_no_frames_do_no_harm() -> None:
    generator = random.Random(1)

    async def main() -> None:
        async with toy_server() as server:
            for _ in range(50):
                async with stranger(server.port) as (reader, frames):
                    frames.writer.write(generator.randbytes(generator.randrange(1, 200)))
                    frames.writer.write_eof()
                    while await reader.read() is not None:
                        pass
            await until(lambda: len(server.sessions) == 0)

    run(main())


@pytest.mark.parametrize(
    ("kind", "header", "reason"),
    [
        (Kind.RESIDENT, ResidentBytes([0] * N), "RESIDENT instead of REPORT"),
        (Kind.REPORT, QueryReport([0] * N, [(7, 0.0, 1.0)], [], 0), "REPORT: layer=7"),
        (Kind.REPORT, QueryReport([0] * N, [], [(9, 0.0, 1.0)], 0), "REPORT: layer=9"),
        (Kind.REPORT, QueryReport([0] * 6 + [2**40], [], [], 0), "REPORT: bytes[6]=1099511627776"),
    ],
)
def test_a_report_that_is_none_ends_the_connection(kind: Kind, header: Header, reason: str) -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def pretend(stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader, frames = FrameReader(stream, FROM_UE), FrameWriter(writer)
        frames.write(Kind.GREETING, Greeting(VERSION, bytes(32)))
        frames.write(Kind.READY, Ready(1 << 20))
        while frame := await reader.read():
            if frame.kind is Kind.BEGIN:
                frames.write(Kind.STARTED, Started([0] * N, 1.0))
            elif frame.kind is Kind.END:
                frames.write(kind, header)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(pretend, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, toy_ue(port, network) as ue:
            got = await ue.infer((value,), [0] * N, prefetch=[1] * N)
            assert got.failure is not None
            assert got.failure.startswith(f"the server broke the protocol: {reason}")
            assert all(map(torch.equal, got.outputs, network.expected(value)))
            assert not ue.connected

    run(main())


def test_a_ue_survives_a_server_that_talks_nonsense() -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    generator = random.Random(2)
    started = encode(Kind.STARTED, 2, Started([0] * N, 1.0))
    answers = [
        (raw(Kind.STARTED, 2, b"\x80"), "STARTED: a header cannot be read"),
        (raw(Kind.HEARTBEAT, 0, b"\x80"), "HEARTBEAT: sequence number 0"),
        (raw(Kind.TENSOR, 2, b"\x80", b"x" * 10), "TENSOR: a header cannot be read"),
        (encode(Kind.STARTED, 2, Started([0] * 3, 1.0)), "one entry per layer"),
        (encode(Kind.STARTED, 2, Started([2**40] * N, 1.0)), "bytes[0]=1099511627776"),
        (started + encode(Kind.TENSOR, 3, Chunk(6, 4), b"abcd") + b"abcd", "come next"),
        (started + encode(Kind.TENSOR, 3, Chunk(7, 0), b"abcd") + b"abcd", "TENSOR: layer=7"),
        (started + encode(Kind.FINISHED, 3, OneLayer(7)), "FINISHED: layer=7"),
        (started + encode(Kind.FULL, 3, OneLayer(-1)), "FULL: layer=-1"),
        (started + encode(Kind.HEARTBEAT, 3, Heartbeat(2**40, 0)), "HEARTBEAT: got=1099511627776"),
        (started + encode(Kind.STARTED, 3, Started([0] * N, 1.0)), "STARTED twice"),
        (started + encode(Kind.GREETING, 3, Greeting(VERSION, bytes(32))), "GREETING within"),
        (started + raw(Kind.REPORT, 3, b"\x80"), "REPORT: a header cannot be read"),
        (encode(Kind.ERROR, 2, Reason("no")), "the server says: no"),
        (
            encode(Kind.REFUSED, 2, Reason("no")) + encode(Kind.ERROR, 3, Reason("later")),
            "the server refuses: no",
        ),
        (raw(Kind.ERROR, 2, b"\x80"), "ERROR: a header cannot be read"),
        *((generator.randbytes(50), "") for _ in range(10)),
    ]

    async def main(answer: bytes, reason: str) -> None:
        async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            frames = FrameWriter(writer)
            frames.write(Kind.GREETING, {"version": VERSION, "nonce": bytes(32)})
            frames.write(Kind.READY, {"payload": 1 << 20})
            await reader.readexactly(PREFIX.size)
            writer.write(answer)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(pretend, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, toy_ue(port, network, stall_s=0.2, connect_s=0.2) as ue:
            got = await ue.infer((value,), [1] * N)
            assert got.failure is not None
            assert reason in got.failure
            assert all(map(torch.equal, got.outputs, network.expected(value)))

    for answer, reason in answers:
        run(main(answer, reason))
