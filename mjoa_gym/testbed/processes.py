"""Starts a server in a process, and chooses cores for both sides."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mjoa_gym.testbed.namespace import ShapedNamespace
from mjoa_gym.testbed.tls import make_certificate

TOKEN_VARIABLE = "MJOA_TESTBED_TOKEN"


class ServerProcess(NamedTuple):
    """A server process that is listening."""

    process: subprocess.Popen[str]
    host: str
    port: int
    token: str  # the secret that UEs need
    certificate: Path | None = None  # that UEs must accept; None on loopback


@contextlib.contextmanager
def server_process(
    *arguments: str, core: int | None = None, namespace: ShapedNamespace | None = None
) -> Iterator[ServerProcess]:
    """Start a server on a free port with a random token, and end it afterwards.

    Args:
        arguments: More arguments for `mjoa-gym testbed server`.
        core: Core that executes its layers; None for any.
        namespace: Where the server runs, encrypted; None for loopback without encryption.

    Raises:
        OSError: If the server does not start.
    """
    with contextlib.ExitStack() as stack:
        certificate = None
        if namespace is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            certificate, key = make_certificate(folder, [namespace.address])
            arguments += ("--certificate", str(certificate), "--key", str(key))
        started = stack.enter_context(_started(arguments, core, namespace))
        yield started._replace(certificate=certificate)


@contextlib.contextmanager
def _started(
    arguments: Sequence[str], core: int | None, namespace: ShapedNamespace | None
) -> Iterator[ServerProcess]:
    token = secrets.token_hex(16)
    host = "127.0.0.1" if namespace is None else namespace.address
    command = [sys.executable, "-m", "mjoa_gym.testbed", "server", "--port", "0", "--host", host]
    command += arguments
    if namespace is not None:
        command = [*namespace.command, *command]
    if core is not None:
        command += ["--core", str(core)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {TOKEN_VARIABLE: token}
    ) as process:
        try:
            assert process.stdout is not None, "it is a pipe"
            line = process.stdout.readline()
            found = re.search(r"listening on .*:(\d+)", line)
            if found is None:
                raise OSError(f"the server has not started: {line.strip() or 'see above'}")
            yield ServerProcess(process, host, int(found[1]), token)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def available_cores() -> list[int]:
    """Return the cores that this process may use; none if the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cores() -> tuple[int | None, int | None]:
    """Return a core for the UE's layers and one for the server's, or twice None without two."""
    available = available_cores()
    return (available[0], available[1]) if len(available) > 1 else (None, None)
