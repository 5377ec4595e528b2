"""Encryption between a UE and a server: TLS, with a certificate that the UE knows in advance.

There is no certificate authority. `make_certificate` makes a self-signed certificate and its key.
The server has both, and each UE has a copy of the certificate and accepts no other.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mjoa_gym.files import write

CERTIFICATE, KEY = "testbed.crt", "testbed.key"
VALID_DAYS = 825
REMEDY = (
    "anything but loopback needs TLS: run `mjoa-gym testbed certificate`, start the server with "
    f"--certificate {CERTIFICATE} --key {KEY}, and give the UEs a copy of the certificate "
    f"(--certificate {CERTIFICATE})"
)


def is_loopback(address: str) -> bool:
    """Return whether a numeric address is a loopback address, which no other machine can reach."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


async def check_exposure(host: str, encrypted: bool) -> None:
    """Check that a server without encryption listens on loopback only.

    Raises:
        ValueError: If an address of the host is not a loopback address, or none is found. The
            message says what to do.
    """
    if encrypted:
        return
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    addresses = {str(entry[4][0]) for entry in found}
    if not addresses or not all(map(is_loopback, addresses)):
        raise ValueError(f"host={host!r}: {REMEDY}")


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server's TLS context.

    Raises:
        ValueError: If the files are not a certificate and its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"{certificate} and {key} are not a certificate and its key: {error}"
        ) from error
    return context


def client_context(certificate: Path) -> ssl.SSLContext:
    """Return a UE's TLS context, which trusts only this certificate.

    Raises:
        ValueError: If the file is not a certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # `is_pinned` compares certificates instead
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
        _pinned(certificate)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ValueError(f"{certificate} is not a certificate: {error}") from error
    return context


def is_pinned(writer: asyncio.StreamWriter, certificate: Path) -> bool:
    """Return whether the other side has presented exactly this certificate."""
    connection = writer.get_extra_info("ssl_object")
    return bool(connection.getpeercert(binary_form=True) == _pinned(certificate))


def _pinned(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text("ascii"))


def make_certificate(folder: Path, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key, and return both paths.

    Args:
        folder: Where to write them. It is created if it is missing.
        hosts: Names and addresses that the certificate is for, besides localhost.

    Raises:
        ValueError: If the folder already has one of the files.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    files = folder / CERTIFICATE, folder / KEY
    for file in files:
        if file.exists():
            raise ValueError(f"{file} is there already; remove it first, or use another --out")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mjoa-gym testbed")])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    names = [_general_name(host) for host in dict.fromkeys(("localhost", "127.0.0.1", *hosts))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private = os.open(files[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(private, "wb") as opened:
        opened.write(secret)
    write(files[0], certificate.public_bytes(serialization.Encoding.PEM).decode())
    return files


def _general_name(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
