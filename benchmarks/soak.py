"""`seg-pipeline serve` with 20 good and 20 hostile clients at once, on loopback: `make soak`, ten minutes by default.

Good clients send an image every 5 seconds and must get its masks within three times the idle time (99th percentile).
Hostile ones send damaged and costly files, endless headers, half bodies and half requests. The server's memory must
stay level.
"""

import argparse
import contextlib
import http.client
import json
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from serving import BOUNDARY, ask, form, served, write_bundle

CLIENTS = 20
PAUSE = 5.0
"""Seconds between two requests of a client."""
PATH = "/api/predict?response_format=mask"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of the attack (default: %(default)s)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder))
        with served(folder, "--decode-seconds", "2") as (port, pid):
            idle, _ = good_clients(port, max(10, seconds / 10), attack=False)
            memory = Watch(pid)
            busy, statuses = good_clients(port, seconds, attack=True)
            memory.stop()
    return report(idle, busy, statuses, memory.mib)


class Watch(threading.Thread):
    """MiB of the server and its decoding processes, ten times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.mib, self.running = psutil.Process(pid), [], True
        self.start()

    def run(self) -> None:
        while self.running:
            with contextlib.suppress(psutil.Error):
                family = [self.process, *self.process.children()]
                self.mib.append(sum(one.memory_info().rss for one in family) / 2**20)
            time.sleep(0.1)

    def stop(self) -> None:
        self.running = False
        self.join()


def good_clients(port: int, seconds: float, *, attack: bool) -> tuple[list[float], Counter[int]]:
    """Seconds per answer and counts of statuses of the good clients."""
    end, times, statuses = time.monotonic() + seconds, [], Counter()

    def good(number: int) -> None:
        connection, body = http.client.HTTPConnection("127.0.0.1", port, timeout=60), form(number)
        time.sleep(number * PAUSE / CLIENTS)
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                status, _ = ask(connection, "POST", PATH, body)
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            times.append(time.monotonic() - began)
            statuses[status] += 1
            time.sleep(max(0.0, PAUSE - (time.monotonic() - began)))

    def hostile(number: int) -> None:
        rng, ways = random.Random(number), ATTACKS
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                ways[rng.randrange(len(ways))](port, rng)
            time.sleep(PAUSE)

    threads = [threading.Thread(target=good, args=(number,)) for number in range(CLIENTS)]
    threads += [threading.Thread(target=hostile, args=(number,)) for number in range(CLIENTS)] if attack else []
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return times, statuses


def damaged(port: int, rng: random.Random) -> None:
    body = bytearray(form(rng.randrange(8)))
    for _ in range(8):
        body[rng.randrange(200, len(body) - 50)] ^= 1 << rng.randrange(8)
    send(port, bytes(body))


def bomb(port: int, _: random.Random) -> None:
    """A PNG of 4000 x 4000 black pixels in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    side = 4000
    head = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    cut = zlib.compress(bytes(side * 40), 9)  # a hundredth of its rows
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", cut) + chunk(b"IEND", b"")
    send(port, upload(png))


def pages(port: int, _: random.Random) -> None:
    """A TIFF of 9,000 pages, all of them the same directory's copy."""
    parts, at = [b"II*\0" + (8).to_bytes(4, "little")], 8
    for number in range(9000):
        tags = b"".join(
            code.to_bytes(2, "little")
            + (4).to_bytes(2, "little")
            + (1).to_bytes(4, "little")
            + value.to_bytes(4, "little")
            for code, value in ((256, 4), (257, 4), (258, 8), (273, 8), (277, 1), (279, 16))
        )
        at += 2 + len(tags) + 4
        parts.append((6).to_bytes(2, "little") + tags + (at if number < 8999 else 0).to_bytes(4, "little"))
    send(port, upload(b"".join(parts)))


def endless_headers(port: int, _: random.Random) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 90) for n in range(2000))
        )
        one.recv(1024)


def half_request(port: int, rng: random.Random) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n")
        time.sleep(rng.uniform(0, 5))


def half_body(port: int, rng: random.Random) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(head.encode() + b"Content-Length: 50000\r\n\r\n" + form(1)[:20_000])
        time.sleep(rng.uniform(0, 5))


ATTACKS: tuple[Callable[[int, random.Random], None], ...] = (
    damaged, damaged, bomb, pages, endless_headers, half_request, half_body,
)  # fmt: skip


def upload(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="scan.png"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def send(port: int, body: bytes) -> None:
    ask(http.client.HTTPConnection("127.0.0.1", port, timeout=60), "POST", PATH, body)


def report(idle: list[float], busy: list[float], statuses: Counter[int], mib: list[float]) -> int:
    slow, usual = (statistics.quantiles(times, n=100)[98] for times in (busy, idle))
    third = len(mib) // 3
    early, late = statistics.median(mib[third : 2 * third]), statistics.median(mib[-third:])
    wrong = sum(number for status, number in statuses.items() if status == 0 or status >= 500)
    rows = [
        {"name": "soak_answers", "statuses": dict(sorted(statuses.items())), "wrong": wrong, "ok": wrong == 0},
        {"name": "soak_p99", "a": round(slow, 3), "b": round(usual, 3), "ratio": round(slow / usual, 2), "limit": 3},
        {"name": "soak_memory", "a": round(late), "b": round(early), "ratio": round(late / early, 3), "limit": 1.05},
    ]
    rows = [{"ok": row.get("ratio", 0) <= row.get("limit", 0), **row} for row in rows]
    for row in rows:
        print(json.dumps(row))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
