"""Full queues, slow senders, slow pictures, and a stop in the midst of one."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from seg_pipeline.serving import queue
from seg_pipeline.serving.queue import ClientLimits
from seg_pipeline.serving.schema import RequestError

PIXELS = np.zeros((2, 3), np.uint8)


@pytest.fixture
def slow(fake):
    """A predictor whose jobs wait for `go`, from the second on (the first is the server's own as it starts)."""
    go, begun = threading.Event(), threading.Semaphore(0)
    warm = []

    def job() -> None:
        if warm:
            begun.release()
            assert go.wait(120)
        warm.append(True)

    predictor = fake.Predictor(job=job)
    predictor.go, predictor.begun = go, begun
    yield predictor
    go.set()


def post(address: str, fake) -> httpx.Response:
    return httpx.post(f"{address}/api/predict", files={"image": fake.file(PIXELS)}, timeout=120)


@pytest.mark.fault(
    scenario="more requests than the queue holds", command="seg-pipeline serve", outcome="429 with Retry-After"
)
def test_a_full_queue_is_told_to_come_back(fake, slow):
    app = fake.app(slow, workers=1, queue=1)
    with fake.running(app) as (address, _), ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, address, fake)
        assert slow.begun.acquire(timeout=120)
        second = pool.submit(post, address, fake)
        until(lambda: app.state.served.queue.held == 2)
        third = post(address, fake)
        assert (third.status_code, third.headers["retry-after"]) == (429, "1")
        detail = "the server is already handling 2 requests; try again in a moment"
        assert third.json() == {"error": "busy", "detail": detail}
        assert httpx.get(f"{address}/healthz").status_code == 200  # the server itself is not busy
        slow.go.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]
        assert post(address, fake).status_code == 200
        assert app.state.served.queue.held == 0


def test_what_takes_too_long_is_given_up_and_keeps_its_worker(fake, slow):
    app = fake.app(slow, workers=1, queue=1, timeout=0.5)
    with fake.running(app) as (address, _):
        slow_one, waiting = post(address, fake), post(address, fake)
        slow.go.set()
        until(lambda: post(address, fake).status_code == 200)
    assert (slow_one.status_code, slow_one.json()["error"]) == (504, "too_slow")
    assert (waiting.status_code, waiting.json()["error"]) == (503, "no_worker")
    assert waiting.headers["retry-after"] == "5"


@pytest.mark.fault(scenario="client that stalls", command="seg-pipeline serve", outcome="loses its place in the queue")
def test_a_sender_that_stalls_loses_its_place(fake):
    app = fake.app(fake.Predictor(), timeout=0.3)
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with fake.running(app) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=120) as sender:
            sender.sendall(head + b"Content-Length: 5000\r\n\r\n--x\r\n")
            answer = sender.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        until(lambda: app.state.served.queue.held == 0)


@pytest.mark.fault(
    scenario="SIGTERM while answers are computed", command="seg-pipeline serve", outcome="answers in progress are sent"
)
def test_a_stop_waits_for_the_answers_in_progress(fake, slow):
    with fake.running(fake.app(slow)) as (address, server), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, address, fake)
        assert slow.begun.acquire(timeout=120)
        server.should_exit = True
        time.sleep(0.3)
        slow.go.set()
        assert answer.result().status_code == 200


def until(reached, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_stop_takes_seconds_whatever_is_computed(fake, slow):
    """The prediction never ends; its request and its thread are given up."""
    app = fake.app(slow, stop_seconds=1.0)
    with fake.running(app, timeout_graceful_shutdown=0.6) as (address, server), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, address, fake)
        assert slow.begun.acquire(timeout=120)
        server.should_exit = True
        with pytest.raises(httpx.HTTPError):
            answer.result().raise_for_status()
        until(lambda: app.state.served.readiness.is_stopping)
        assert app.state.served.queue.running == 1  # what the command ends the process for
        slow.go.set()


CLOCK = [0.0]


def limits(**given):
    CLOCK[0] = 0.0
    return ClientLimits(**{"concurrent": 0, "per_minute": 0, **given}, clock=lambda: CLOCK[0])


def admitted(some, host):
    try:
        with some.admit(host):
            return None
    except RequestError as error:
        return error


def test_a_client_may_send_so_many_requests_per_minute():
    some = limits(per_minute=3)
    assert [admitted(some, "10.0.0.1") for _ in range(3)] == [None] * 3
    refused = admitted(some, "10.0.0.1")
    assert (refused.status, refused.problem.error, refused.headers) == (429, "too_many", {"Retry-After": "20"})
    assert refused.problem.detail == "this server allows each client 3 requests per minute; try again in 20 s"
    assert admitted(some, "10.0.0.2") is None  # another client
    CLOCK[0] = 19.9
    assert admitted(some, "10.0.0.1").headers == {"Retry-After": "1"}
    CLOCK[0] = 20.0
    assert admitted(some, "10.0.0.1") is None
    assert admitted(some, "10.0.0.1") is not None


def test_a_client_may_have_so_many_requests_in_progress():
    some = limits(concurrent=2)
    with some.admit("10.0.0.1"), some.admit("10.0.0.1"):
        assert admitted(some, "10.0.0.1").problem.detail == (
            "this server allows each client 2 requests in progress; try again in 1 s"
        )
        assert admitted(some, "10.0.0.9") is None
    assert admitted(some, "10.0.0.1") is None
    assert not some._held


def test_addresses_of_one_ipv6_network_are_one_client():
    some = limits(per_minute=1)
    assert admitted(some, "2001:db8::1") is None
    assert admitted(some, "2001:db8::2:0:0:1") is not None  # the same first 64 bits
    assert admitted(some, "2001:db8:0:1::1") is None


def test_the_quietest_clients_are_forgotten(monkeypatch):
    monkeypatch.setattr(queue, "MAX_CLIENTS", 2)
    some = limits(per_minute=1)
    assert [admitted(some, host) for host in ("a", "b", "c")] == [None] * 3
    assert list(some._buckets) == ["b", "c"]


def test_without_limits_no_client_is_remembered():
    some = limits()
    assert [admitted(some, "a") for _ in range(1000)] == [None] * 1000
    assert not some._buckets
