"""A lock that a process holds until it ends."""

import re
import subprocess
import sys

import pytest

from seg_pipeline.segmentation.storage.locks import only_process

HOLD = """
import sys, time
from pathlib import Path
from seg_pipeline.segmentation.storage.locks import only_process
with only_process(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time(tmp_path):
    file = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(file)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(ValueError, match=re.escape(f"{file}: process {other.pid} is at work")),
            only_process(file, "process {process} is at work"),
        ):
            pass
        other.kill()  # SIGKILL: the system releases the lock
    with only_process(file, "busy"):
        assert file.read_text().isdigit()
    assert file.read_text() == ""
