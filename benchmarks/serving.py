"""`seg-pipeline serve` at 256 x 256 (a) and onnxruntime alone (b); memory late (a) and early (b) in a minute of 20
clients. The server adds little to a request, and its memory stays level.

The model is the default network, trained for a minute: of random weights, the masks would be noise. Served: a PNG file
in, a PNG of the masks out, over one connection; alone: the network on an array that is ready. BENCH_SHRINK=12 makes
the minutes 5 s and the turns as many times fewer, to try the script out; its numbers mean nothing then.
"""

import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
from side_by_side import Result, compare, judge, report
from training import draw

from seg_pipeline.segmentation.export import make_bundle
from seg_pipeline.segmentation.phantom import CLASSES
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.predictor import load_onnx, prepare
from seg_pipeline.segmentation.settings.training import ComputeSettings, FitSettings, InputSettings, ModelSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.run import train

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
SIDE = 256
THREADS = 1
"""Of one image, on both sides: more would wait for one another on a machine that does anything else."""
REQUESTS = 6
"""A turn: few, so that what the machine does besides falls upon both sides."""
TURNS = max(1, 36 // SHRINK)
CLIENTS = 20
SECONDS = 60 / SHRINK
BOUNDARY = "picture"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder))
        with served(folder, "--workers-in-flight", "1", "--threads", str(THREADS)) as (port, _):
            overhead = beside_onnx(Path(folder), port)
        with served(folder) as (port, pid):
            memory = under_load(port, pid)
    return report(overhead, memory)


def write_bundle(folder: Path) -> None:
    config = TrainingConfig(
        task="multilabel",
        classes=tuple(CLASSES),
        model=ModelSettings(encoder_weights=None, decoder_channels=(128, 64, 48, 32)),
        input=InputSettings(size=(SIDE, SIDE), normalisation="percentile"),
        fit=FitSettings(epochs=max(1, 4 // SHRINK), validate_every=4),
    )
    with tempfile.TemporaryDirectory() as scans:
        manifest = draw(Path(scans), train=max(8, 48 // SHRINK), size=SIDE)
        *_, trained = train(manifest, config, ComputeSettings(device="cpu", num_workers=0))
    make_bundle(trained.best, folder, formats=["onnx"])


@contextlib.contextmanager
def served(bundle: str, *options: str) -> Iterator[tuple[int, int]]:
    """Port and process number of a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from seg_pipeline.serving.command import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "--model", bundle, "--port", str(port), *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_up(port):
            if server.poll() is not None:
                raise RuntimeError(f"the server ended with {server.returncode}")
            time.sleep(0.1)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(60)


def is_up(port: int) -> bool:
    try:
        return ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), "GET", "/readyz")[0] == 200
    except OSError:
        return False


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} if body else {}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


class Connection:
    """To a server, for one request again and again: Python's own client would be a tenth of what is measured."""

    def __init__(self, port: int, path: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.request, self.socket = head.encode() + body, socket.create_connection(("127.0.0.1", port), timeout=60)

    def ask(self) -> None:
        """Reads the whole answer, which must be 200."""
        self.socket.sendall(self.request)
        told = b""
        while b"\r\n\r\n" not in told:
            told += self.socket.recv(2**16)
        head, _, body = told.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        missing = int(head.lower().partition(b"content-length:")[2].split()[0]) - len(body)
        while missing:
            missing -= len(self.socket.recv(missing))


def picture(seed: int) -> np.ndarray:
    """Smooth noise, uint8 (H, W); its PNG has 37 kB, those of the abdominal slices at this size 32 kB."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE // 16, SIDE // 16), dtype=np.uint8)
    return cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def form(seed: int) -> bytes:
    """A multipart body with a picture as PNG."""
    png = cv2.imencode(".png", picture(seed))[1].tobytes()
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="scan.png"\r\n\r\n'
    return head.encode() + png + f"\r\n--{BOUNDARY}--\r\n".encode()


def beside_onnx(bundle: Path, port: int) -> Result:
    network = load_onnx(bundle / "model.onnx", threads=THREADS)
    connection = Connection(port, "/api/predict?response_format=mask", form(0))
    pixels = prepare(picture(0), Bundle.read(bundle).input)[None]

    def over_http() -> None:
        for _ in range(REQUESTS):
            connection.ask()

    def alone() -> None:
        for _ in range(REQUESTS):
            network(pixels)

    note = f"{REQUESTS} images of {SIDE} x {SIDE} in sequence, one thread"
    return compare("serving_overhead", over_http, alone, limit=1.15, runs=TURNS, note=note)


def under_load(port: int, pid: int) -> Result:
    """Resident memory in the last third over that in the second sixth; every answer must be 200."""
    end, counts, wrong = time.monotonic() + SECONDS, [0] * CLIENTS, []
    bodies = [form(seed) for seed in range(8)]

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < end and not wrong:
            try:
                for method, path, body in visits(number, bodies[counts[number] % len(bodies)]):
                    status, _ = ask(connection, method, path, body)
                    if status != 200:
                        wrong.append(f"{path}: {status}")
                counts[number] += 1
            except (OSError, http.client.HTTPException) as error:
                wrong.append(repr(error))

    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    memory = watched(pid, SECONDS)
    for one in clients:
        one.join()
    if wrong:
        raise RuntimeError(f"{len(wrong)} answers were wrong under load, such as {wrong[:3]}")
    sixth = len(memory) // 6
    note = (
        f"{sum(counts)} rounds of requests from {CLIENTS} clients in {SECONDS:g} s, none failed; last third and second "
        "sixth"
    )
    early, late = memory[sixth : 2 * sixth], memory[-2 * sixth :]
    return judge(
        "serving_memory", [statistics.median(late)], [statistics.median(early)], limit=1.05, unit="MiB", note=note
    )


def visits(number: int, body: bytes) -> list[tuple[str, str, bytes | None]]:
    """What a client asks in one round: every fifth opens the page as a person would, the others use the API."""
    if number % 5:
        return [("POST", f"/api/predict?response_format={('json', 'mask')[number % 2]}", body)]
    page = [("GET", path, None) for path in ("/", "/page/page.css", "/page/page.js", "/api/model")]
    return [*page, ("POST", "/api/predict?include=display&include=probabilities", body)]


def watched(pid: int, seconds: float) -> list[float]:
    """MiB of a process, 60 times."""
    process, found = psutil.Process(pid), []
    for _ in range(60):
        time.sleep(seconds / 60)
        found.append(process.memory_info().rss / 2**20)
    return found


if __name__ == "__main__":
    sys.exit(main())
