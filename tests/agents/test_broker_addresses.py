"""Where the broker's requests go."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agents import upstream
from agents.upstream import Upstream
from sandboxes.addresses import Addresses

from ._broker import World
from ._provider import until


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://127.0.0.1:{port}", "leads to a private or reserved address"),
        ("https://[::1]:{port}", "leads to a private or reserved address"),
        ("https://169.254.169.254", "leads to a private or reserved address"),
        ("https://localhost:{port}", "leads to a private or reserved address"),
        ("http://127.0.0.1:{port}", "is asked without encryption"),
        ("http://93.184.215.14", "is asked without encryption"),
        ("ftp://127.0.0.1", "is not one of an API"),
        ("https://me@127.0.0.1", "is not one of an API"),
        ("https://127.0.0.1/?a=b", "is not one of an API"),
        ("https://127.0.0.1:99999999", "is not one of an API"),
        ("nonsense", "is not one of an API"),
    ],
)
async def test_private_and_plain_addresses_are_refused_unless_the_operator_allows_them(world: World, url: str, sentence: str) -> None:
    world.allowed = []
    world.key = {"base_url": url.format(port=world.port)}
    await world.start()
    answer = await world.ask()
    assert answer.status_code == 502
    assert sentence in answer.json()["error"]["message"]
    assert (world.provider.connections, [call.status for call in world.calls]) == (0, [502])


async def test_a_name_is_connected_to_at_the_address_that_was_judged(world: World) -> None:
    looked_up = []

    async def lookup(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["10.0.0.1"]

    addresses = Addresses([f"models.example:{world.port}"], lookup=lookup)
    sending = Upstream(addresses)
    answer = await sending.send("GET", upstream.Address.of(f"http://models.example:{world.port}"), "/v1/models", [], b"")
    assert (answer.status, looked_up) == (200, ["models.example"])
    await answer.close()
    await sending.close()
    assert world.provider.asked[0].header("host") == f"models.example:{world.port}"


async def test_a_redirect_is_not_followed(world: World) -> None:
    world.provider.status = "307 Temporary Redirect"
    world.provider.headers = {"location": f"http://127.0.0.1:{world.port}/elsewhere"}
    await world.start()
    answer = await world.ask()
    assert answer.status_code == 502
    assert "answered with status 307" in answer.json()["error"]["message"]
    assert (len(world.provider.asked), "location" in answer.headers) == (1, False)


@pytest.mark.parametrize("is_known", [True, False])
async def test_only_a_certificate_that_somebody_vouches_for_is_taken(world: World, tmp_path: Path, is_known: bool) -> None:
    certificate = certify(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(world.provider, "127.0.0.1", 0, ssl=context)
    world.port = server.sockets[0].getsockname()[1]
    world.key, world.allowed = {"base_url": f"https://127.0.0.1:{world.port}"}, [f"127.0.0.1:{world.port}"]
    await world.start(**({"tls": ssl.create_default_context(cafile=str(certificate))} if is_known else {}))
    assert (await world.ask()).status_code == (200 if is_known else 502)
    assert len(world.provider.asked) == is_known
    server.close()


def certify(folder: Path, address: str) -> Path:
    """A certificate for an address that nobody but itself vouches for, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return path


async def test_a_client_that_leaves_while_tls_is_greeted_leaves_no_connection(world: World) -> None:
    world.key = {"base_url": f"https://127.0.0.1:{world.port}"}  # which speaks no TLS, and waits for more
    await world.start()
    asking = asyncio.create_task(world.ask())
    await until(lambda: world.provider.open == 1)
    asking.cancel()
    await until(lambda: world.provider.open == 0)


async def test_a_provider_that_cannot_be_reached_is_said_so(world: World) -> None:
    world.key = {"base_url": "http://127.0.0.1:9"}
    world.allowed = ["127.0.0.1:9"]
    await world.start()
    answer = await world.ask()
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, "asynccode: 127.0.0.1:9 cannot be reached from here.")


async def test_a_provider_that_never_answers_is_given_up(world: World) -> None:
    world.provider.holds = asyncio.Event()
    await world.start(read_s=0.1)
    answer = await world.ask()
    assert (answer.status_code, [call.status for call in world.calls]) == (504, [504])
    assert "did not answer in time" in answer.json()["error"]["message"]
