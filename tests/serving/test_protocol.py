"""What a client may do before it has sent a request."""

import contextlib
import socket

import httpx
import pytest

from seg_pipeline.serving import protocol
from seg_pipeline.serving.protocol import LimitedProtocol


@pytest.fixture(scope="module")
def address(fake):
    with fake.running(fake.app(fake.Predictor()), http=LimitedProtocol) as (url, _):
        yield url


def connected(address):
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def everything(connection):
    """All bytes until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.fault(
    scenario="headers without end", command="seg-pipeline serve", outcome="the connection is closed", review="serving 7"
)
def test_headers_without_end_are_refused(address):
    with connected(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 66_000)
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"x-content-type-options: nosniff" in head.lower()
    assert body == b'{"error":"headers","detail":"the headers exceed this server\'s limit of 65,536 bytes"}'


@pytest.mark.fault(
    scenario="client that sends no whole headers",
    command="seg-pipeline serve",
    outcome="the connection is closed after a while",
    review="serving 7",
)
@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: "])
def test_a_client_that_sends_no_whole_headers_is_let_go(address, begun, monkeypatch):
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    with connected(address) as connection:
        connection.sendall(begun)
        assert everything(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.fault(
    scenario="too many connections",
    command="seg-pipeline serve",
    outcome="those beyond the limit are closed",
    review="serving 7",
)
def test_connections_beyond_the_limit_are_closed(address, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    with connected(address), connected(address), connected(address) as third:
        assert everything(third) == b""
    with httpx.Client() as client:
        assert client.get(f"{address}/healthz").status_code == 200


def test_usual_requests_pass_on_one_connection_one_after_another(address, fake, monkeypatch):
    timers = []
    start = LimitedProtocol._start_timer
    monkeypatch.setattr(LimitedProtocol, "_start_timer", lambda self: (start(self), timers.append(self._timer)))
    noise = bytes(300_000)  # a body far above the limit of headers
    with httpx.Client(base_url=address) as client:
        for _ in range(3):
            assert client.get("/healthz").json() == {"status": "ok"}
            assert client.post("/api/predict", files={"image": ("a.png", noise)}).status_code == 415
    assert len(timers) == 6
    assert all(timer.cancelled() for timer in timers)  # each ended with its headers
