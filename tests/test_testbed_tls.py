"""Nothing but loopback without encryption, and only the certificate that was agreed on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")
pytest.importorskip("cryptography")

from mjoa_gym.cli.main import main as command  # noqa: E402
from mjoa_gym.testbed.codec import image_of_bundle  # noqa: E402
from mjoa_gym.testbed.frames import FrameWriter, Kind  # noqa: E402
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402
from mjoa_gym.testbed.server import EdgeServer  # noqa: E402
from mjoa_gym.testbed.settings import ServerSettings  # noqa: E402
from mjoa_gym.testbed.tls import (  # noqa: E402
    CERTIFICATE,
    KEY,
    client_context,
    is_loopback,
    make_certificate,
    server_context,
)
from mjoa_gym.testbed.transmitter import Transfer, Transmitter  # noqa: E402

from .testbed_helpers import TOKEN, Proxy, run, toy_server, toy_ue  # noqa: E402
from .testbed_network import diamond  # noqa: E402
from .testbed_rounds import controlled, participant, take_part  # noqa: E402

ONES = [1] * 7


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "an.unknown.host.invalid"])
def test_nothing_but_loopback_is_bound_without_tls(host: str) -> None:
    async def main() -> None:
        builders = {"toy": lambda: LayeredProgram(diamond())}
        with pytest.raises(ValueError, match="mjoa-gym testbed certificate"):
            async with EdgeServer(ServerSettings(TOKEN, host), builders):
                pass

    run(main())


def test_the_command_says_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = ["testbed", "server", "--token", TOKEN, "--host", "0.0.0.0", "--models", "--port", "0"]
    assert command(line) == 1
    said = capsys.readouterr().err
    assert "host='0.0.0.0': anything but loopback needs TLS" in said
    assert "mjoa-gym testbed certificate" in said
    assert command(["testbed", "certificate", "--out", str(tmp_path), "--host", "10.0.0.7"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / CERTIFICATE), str(tmp_path / KEY)]
    assert (tmp_path / KEY).stat().st_mode & 0o077 == 0
    assert command(["testbed", "certificate", "--out", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("10.0.0.1", False),
     ("0.0.0.0", False), ("::", False), ("fe80::1%eth0", False), ("localhost", False)],
)  # fmt: skip
def test_what_loopback_is(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_inferences_over_tls_are_right_and_cannot_be_read(pair: tuple[Path, Path]) -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    seen = bytearray()

    class Listening(Proxy):
        async def _copy(
            self, direction: str, source: asyncio.StreamReader, target: asyncio.StreamWriter
        ) -> None:
            while data := await source.read(1 << 14):
                seen.extend(data)
                target.write(data)

    async def main() -> None:
        async with (
            toy_server(network, certificate=pair[0], key=pair[1]) as server,
            Listening(server.port) as proxy,
            toy_ue(proxy.own_port, network, certificate=pair[0]) as ue,
        ):
            got = await ue.infer((value,), ONES)
            assert got.failure is None, got.failure
            assert all(map(torch.allclose, got.outputs, network.expected(value)))
        assert len(seen) > 90_000
        assert b"layer0.weight" not in seen
        assert network.weights["layer0.weight"][:8].numpy().tobytes() not in seen

    run(main())


def test_what_the_operating_system_shapes_does_not_wait_for_the_other_side_to_speak(
    pair: tuple[Path, Path],
) -> None:
    """A chunk that has gone is followed by the next one, though the server says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            pass
        writer.close()

    async def main() -> None:
        context = server_context(*pair)
        async with await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context(pair[0]), server_hostname=""
            )
            sent = asyncio.Event()
            frames = FrameWriter(writer)
            link = Transmitter(frames, 10e6, on_sent=sent.set, shaped_below=True)
            frames.write(Kind.PING)
            link.send(Transfer(Kind.TENSOR, 0, image_of_bundle((torch.randn(100_000),))))
            async with asyncio.timeout(20):
                await sent.wait()
            link.stop()
            writer.close()

    run(main())


def test_rounds_and_refusals_over_tls(pair: tuple[Path, Path]) -> None:
    network = diamond()
    patience = {"certificate": pair[0]}

    async def main() -> None:
        files = {"certificate": pair[0], "key": pair[1]}
        async with controlled(network=network, server=files) as (server, _log):
            async with participant(server.port, network, patience=patience) as a:
                await take_part(a, network, 2)
            async with participant(server.port, network, patience=patience, weight=1e9) as b:
                (got,) = await take_part(b, network, 1, failures=True)
                assert "at most 10 is allowed" in got.inference.failure

    run(main())


def test_another_certificate_is_not_accepted(pair: tuple[Path, Path], tmp_path: Path) -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    other = make_certificate(tmp_path)

    async def main() -> None:
        async with toy_server(network, certificate=other[0], key=other[1]) as server:
            for certificate in (pair[0], None):
                settings = {"certificate": certificate, "connect_s": 1.0}
                async with toy_ue(server.port, network, **settings) as ue:
                    got = await ue.infer((value,), ONES)
                    assert got.failure is not None
                    assert all(map(torch.allclose, got.outputs, network.expected(value)))
                    assert not any(s.authenticated for s in server.sessions)
        async with toy_server(network) as plain:  # noqa: SIM117 - somebody between who offers none
            async with toy_ue(plain.port, network, certificate=pair[0], connect_s=1.0) as ue:
                assert "no connection" in str((await ue.infer((value,), ONES)).failure)

    run(main())


def test_a_ue_says_nothing_to_another_machine_without_tls() -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # which sends nothing
        except OSError:
            pytest.skip("this machine has no other address")
        here = asking.getsockname()[0]

    async def main() -> None:
        said: list[bytes] = []

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said.append(await reader.read(100))
            writer.close()

        async with await asyncio.start_server(listen, here, 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with toy_ue(port, network, host=here) as ue:
                got = await ue.infer((value,), ONES)
                assert "anything but loopback needs TLS" in str(got.failure)
            await asyncio.sleep(0.05)
        assert not any(said)

    run(main())


def test_files_that_are_none_are_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.crt"
    nothing.write_text("no certificate")

    async def main() -> None:
        for files in ((nothing, pair[1]), (pair[0], nothing), (pair[0], tmp_path / "none")):
            with pytest.raises(ValueError, match="are not a certificate and its key"):
                async with toy_server(certificate=files[0], key=files[1]):
                    pass

    run(main())
    with pytest.raises(ValueError, match="a certificate needs its key"):
        ServerSettings(TOKEN, certificate=pair[0])
    line = ["testbed", "ue", "--token", TOKEN, "--certificate", str(nothing), "--model", "alexnet"]
    assert command(line) == 1
