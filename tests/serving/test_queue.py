"""Full queues, slow senders, slow pictures, and a stop in the midst of one."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

PIXELS = np.zeros((2, 3), np.uint8)


@pytest.fixture
def slow(fake):
    """A predictor whose jobs wait for `go`, from the second on (the first is the server's own as it starts)."""
    go, begun = threading.Event(), threading.Semaphore(0)
    warm = []

    def job() -> None:
        if warm:
            begun.release()
            assert go.wait(20)
        warm.append(True)

    predictor = fake.Predictor(job=job)
    predictor.go, predictor.begun = go, begun
    yield predictor
    go.set()


def post(address: str, fake) -> httpx.Response:
    return httpx.post(f"{address}/api/predict", files={"image": fake.file(PIXELS)}, timeout=20)


@pytest.mark.fault(
    scenario="more requests than the queue holds", command="seg-pipeline serve", outcome="429 with Retry-After"
)
def test_a_full_queue_is_told_to_come_back(fake, slow):
    app = fake.app(slow, workers=1, queue=1)
    with fake.running(app) as (address, _), ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, address, fake)
        assert slow.begun.acquire(timeout=20)
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
    app = fake.app(slow, workers=1, queue=1, timeout=0.3)
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
        with socket.create_connection((host, int(port)), timeout=20) as sender:
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
        assert slow.begun.acquire(timeout=20)
        server.should_exit = True
        time.sleep(0.3)
        slow.go.set()
        assert answer.result().status_code == 200


def until(reached, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)
