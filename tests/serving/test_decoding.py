"""Files that take too long or too much memory to decode cost a process, never the server."""

import io
import multiprocessing
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.serving import decoding
from seg_pipeline.serving.decoding import DecodingProcesses
from seg_pipeline.serving.schema import RequestError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.fixture(scope="module")
def processes():
    made = DecodingProcesses(number=1, seconds=60, max_pixels=20_000, reading=ReadSettings())
    yield made
    made.close()


def test_a_process_decodes_as_the_server_would(processes, fake):
    found = processes("a.png", fake.file(GREY))
    assert (found.format, found.pixels.shape) == ("PNG", (6, 8))
    np.testing.assert_array_equal(found.pixels, GREY)


def test_a_page_and_dicom_are_decoded_within_the_limits(processes, fake):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "TIFF", save_all=True, append_images=[Image.fromarray(GREY[::-1])])
    np.testing.assert_array_equal(processes("a.tif", file.getvalue(), 2).pixels, GREY[::-1])
    found = processes("a.dcm", fake.dicom(GREY, intercept=-10))
    np.testing.assert_array_equal(found.pixels, GREY)
    assert (found.spacing, found.value_range) == ((0.5, 2), (-10, 65525))


def test_what_is_refused_is_refused_in_the_same_words(processes):
    with pytest.raises(RequestError, match="a: the file is empty") as refused:
        processes("a", b"")
    assert (refused.value.status, refused.value.problem.error) == (400, "empty_file")


@pytest.mark.fault(
    scenario="upload that takes too long to decode",
    command="seg-pipeline serve",
    outcome="422; the decoding process is replaced",
    review="serving 2",
)
@pytest.mark.slow
def test_a_file_that_takes_too_long_costs_a_process_and_no_more(fake):
    slow = DecodingProcesses(number=1, seconds=0.001, max_pixels=20_000_000, reading=ReadSettings())
    try:
        large = fake.file(np.random.default_rng(1).integers(0, 255, (3000, 3000), dtype=np.uint8))
        for _ in range(2):  # the second one is refused by the process that replaced the first
            with pytest.raises(RequestError, match=r"b: decoding it takes more than 0\.001 seconds") as refused:
                slow("b", large)
            assert (refused.value.status, refused.value.problem.error) == (422, "too_costly")
    finally:
        slow.close()


@pytest.mark.fault(
    scenario="upload that takes too much memory",
    command="seg-pipeline serve",
    outcome="422; the decoding process is replaced",
    review="serving 1",
)
def test_memory_is_limited(fake, monkeypatch):
    """In a forked child, which sees the smaller limit: 144 million pixels do not fit into 32 MB."""
    monkeypatch.setattr(decoding, "MEMORY_PER_PIXEL", 0)
    monkeypatch.setattr(decoding, "MEMORY", 32 << 20)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    reading = ReadSettings(max_pixels=150_000_000)
    child = context.Process(target=decoding._run_process, args=(theirs, reading.max_pixels, reading, 60))
    child.start()
    theirs.close()  # so that the pipe ends with the child
    assert ours.recv() is True
    ours.send(("c", fake.file(np.zeros((12_000, 12_000), dtype=np.uint8)), None))
    assert ours.recv()[0] == 422
    child.kill()
    child.join()


def test_pixels_that_fit_once_and_not_twice_cost_no_process(fake, monkeypatch):
    """A decoded image is copied to be sent, which may be what takes too much memory."""
    sent = []

    class Pipe:
        tasks: ClassVar = [("a.png", fake.file(GREY), None), ("b.png", fake.file(GREY), None)]

        def recv(self):
            if not self.tasks:
                raise EOFError
            return self.tasks.pop(0)

        def send(self, answer):
            if getattr(answer, "name", None) == "a.png":
                raise MemoryError
            sent.append(answer)

    monkeypatch.setattr(decoding, "_limit_memory", lambda _: None)
    monkeypatch.setattr(decoding, "_limit_cpu_time", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    decoding._run_process(Pipe(), 100, ReadSettings(), 60)
    ready, refused, decoded = sent
    assert ready is True
    assert refused == (422, "too_costly", "a.png: decoding it takes too much memory")
    np.testing.assert_array_equal(decoded.pixels, GREY)


@pytest.mark.fault(
    scenario="server killed while a process decodes an upload that does not end",
    command="seg-pipeline serve",
    outcome="the process ends when it has computed for the time that a file may take",
)
@pytest.mark.slow
def test_a_process_without_its_server_ends(monkeypatch):
    def endless(*args, **kwargs):
        while True:
            pass

    monkeypatch.setattr(decoding, "decode_upload", endless)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=decoding._run_process, args=(theirs, 100, ReadSettings(), 0.01))
    child.start()
    assert ours.recv() is True
    ours.send(("a", b"", None))
    child.join(120)
    assert child.exitcode == -signal.SIGXCPU


@pytest.mark.slow
def test_a_stop_ends_what_is_being_decoded(fake):
    processes = DecodingProcesses(number=1, seconds=60, max_pixels=20_000_000, reading=ReadSettings())
    processes.wait()
    large = fake.file(np.random.default_rng(1).integers(0, 255, (4000, 4000), dtype=np.uint8))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(processes, "b", large)
        while processes._idle.qsize():
            time.sleep(0.001)
        processes.close()
        with pytest.raises(RequestError, match="the server is stopping") as refused:
            answer.result()
    assert refused.value.status == 503
    assert not processes._all[0]._process.is_alive()  # and no other has taken its place
