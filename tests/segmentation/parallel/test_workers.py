"""Workers end with the process that started them, however it ends."""

import signal
import subprocess
import sys

import psutil
import pytest

MEASURE = """
import time
from seg_pipeline.segmentation.parallel.executors import Processes
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered

for _ in map_ordered(Processes(2), time.sleep, (600 * (number > 2) for number in range(6))):
    print("at work", flush=True)
"""
LOAD = """
import time
import torch
from torch.utils.data import DataLoader
from seg_pipeline.segmentation.data.loaders import _loader
from seg_pipeline.segmentation.settings.training import ComputeSettings

torch.set_num_threads = lambda number: time.sleep(1)  # workers that start slowly find their parent dead already
loader = _loader(range(9), [[0], [1]], compute=ComputeSettings(), device=torch.device("cpu"), workers=2)
batches = DataLoader.__iter__(loader)
print("at work", flush=True)
time.sleep(600)
"""
DECODE = """
import time
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.serving.decoding import DecodingProcesses
from seg_pipeline.serving.schema import RequestError

processes = DecodingProcesses(number=2, seconds=60, max_pixels=10**6, reading=ReadSettings())
try:
    processes("a.png", b"no image")
except RequestError:
    print("at work", flush=True)
time.sleep(600)
"""
SEARCH = """
import time
from seg_pipeline.segmentation.search.workers import SingleProcessExecutor

worker = SingleProcessExecutor()
worker.submit(abs, -1).result()
worker.submit(time.sleep, 600)
print("at work", flush=True)
time.sleep(600)
"""
APART = """
import threading
import time
from seg_pipeline.segmentation.parallel.apart import call_apart

call_apart(abs, -1)
threading.Thread(target=call_apart, args=(time.sleep, 600)).start()
print("at work", flush=True)
"""


@pytest.mark.fault(
    scenario="killed while workers run",
    command="data_processing, hparam_search, training, seg-pipeline serve",
    outcome="worker processes end within seconds",
)
@pytest.mark.slow
@pytest.mark.parametrize(
    "code", [MEASURE, LOAD, DECODE, SEARCH, APART], ids=["map", "data loader", "server", "search", "decoder"]
)
def test_workers_of_a_killed_process_end(code, running_after):
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"at work\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert workers
    assert running_after(workers) == []
