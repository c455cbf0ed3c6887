"""A process that has loaded all heavy packages and forks for each command, as loading takes longer than the command.

Run as a script: each line that comes in is JSON. For a command its process id goes out, for a process id its exit
status.
"""

import atexit
import ctypes
import importlib
import json
import os
import pkgutil
import resource
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODULES = [
    "alembic.config", "fsspec.implementations.chained", "fsspec.implementations.local", "kedro.config",
    "kedro.framework.cli.project", "kedro.framework.context", "kedro.framework.session.store", "kedro.runner",
    "kedro.validation", "kedro_datasets.json", "kedro_datasets.matplotlib", "kedro_datasets.pandas",
    "kedro_datasets.text", "kedro_telemetry.plugin", "kedro_viz.integrations.kedro.run_hooks",
    "kedro_viz.launchers.cli.main", "matplotlib.backends.backend_agg", "matplotlib.pyplot",
    "mlflow.store.tracking.sqlalchemy_workspace_store", "onnxruntime", "optuna.importance", "pathspec",
    "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin", "plotly.graph_objects",
    "pyarrow.dataset", "pyarrow.parquet", "scipy.stats", "segmentation_models_pytorch", "seg_pipeline.cli",
    "seg_pipeline.pipeline_registry", "seg_pipeline.segmentation.export.bundle_files",
    "seg_pipeline.segmentation.exploration.contact_sheets", "seg_pipeline.segmentation.inference.run",
    "seg_pipeline.segmentation.manifest.cross_checks", "seg_pipeline.segmentation.manifest.exclusions",
    "seg_pipeline.segmentation.manifest.measure_table", "seg_pipeline.segmentation.manifest.splits",
    "seg_pipeline.segmentation.manifest.table_schemas", "seg_pipeline.segmentation.phantom",
    "seg_pipeline.segmentation.phantom.layouts", "seg_pipeline.segmentation.report.findings",
    "seg_pipeline.segmentation.report.run_report", "seg_pipeline.segmentation.report.search",
    "seg_pipeline.segmentation.search.figures", "seg_pipeline.segmentation.search.grid",
    "seg_pipeline.segmentation.search.sanity_checks", "seg_pipeline.segmentation.training.run",
    "seg_pipeline.settings", "sqlalchemy.dialects.sqlite", "torch.utils.serialization.config", "webbrowser",
]  # fmt: skip
PACKAGES = ["seg_pipeline.datasets", "seg_pipeline.hooks", "seg_pipeline.pipelines"]
"""Of which every module is loaded."""


class Command:
    """A command that runs in a fork of the warm process."""

    def __init__(self, warm: "Warm", process: int, log: Path) -> None:
        self.process, self._warm, self._log = process, warm, log

    def wait(self) -> int:
        """The exit status; negative: the signal that ended it."""
        return self._warm.answer(self.process)

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


class Warm:
    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        command = [sys.executable, __file__]
        self._errors = (folder / "errors.txt").open("w")
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1
        )

    def start(self, *argv: object, program: str = "kedro", **options: Any) -> Command:
        """Run ``kedro``, ``seg-pipeline``, ``python SCRIPT …`` or ``python -c CODE``; ``options``: see ``_prepare``."""
        self._number += 1
        log = self._folder / f"{self._number}.txt"
        log.touch()  # it may be read before the command has begun
        job = {"argv": [program, *map(str, argv)], "log": str(log), **options}
        return Command(self, self.answer(job), log)

    def run(self, *argv: object, **options: Any) -> tuple[int, str]:
        command = self.start(*argv, **options)
        return command.wait(), command.output

    def run_ranks(self, script: Path, folder: Path) -> None:
        """Run ``script RANK FOLDER`` as two processes at once, which must not print anything, not even a warning."""
        ranks = [self.start(script, rank, folder, program="python", cwd=str(folder), strict=True) for rank in range(2)]
        assert [(rank.wait(), rank.output) for rank in ranks] == [(0, ""), (0, "")]

    def answer(self, job: Any) -> int:
        self.server.stdin.write(json.dumps(job) + "\n")
        line = self.server.stdout.readline()
        assert line, (self._folder / "errors.txt").read_text()[-3000:]
        return int(line)

    def close(self) -> None:
        # Closing the pipe may not end it: forks of the test process, such as a loader's workers, hold the pipe too.
        self.server.terminate()
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
        self._errors.close()


@contextmanager
def warm_process(folder: Path) -> Iterator[Warm]:
    made = Warm(folder)
    try:
        yield made
    finally:
        made.close()


def _prepare(
    *,
    log: str,
    cwd: str,
    largest: int | None = None,
    broken_pipe: bool = False,
    powers: bool = False,
    strict: bool = False,
    variables: dict[str, str] | None = None,
) -> None:
    """Become the process of a command: output to ``log``, files of at most ``largest`` bytes, more ``variables``.

    Without ``powers``, the rights of files and folders hold for root, too. Where it is ``strict``, warnings are errors.
    """
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(output, stream)
    if broken_pipe:
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.chdir(cwd)
    os.environ.update(variables or {})
    if strict:
        warnings.simplefilter("error")
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if not powers and os.getuid() == 0:
        header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None, use_errno=True).capset(header, nothing) == 0


def _run(argv: list[str]) -> int:
    """Run the command as the interpreter would; its exit status."""
    from kedro.framework.cli.cli import main

    if argv[0] == "seg-pipeline":
        from seg_pipeline.__main__ import main
    sys.argv = argv[1:] if argv[0] == "python" else argv
    try:
        if argv[:2] == ["python", "-c"]:
            exec(argv[2], {"__name__": "__main__"})
        elif argv[0] == "python":
            runpy.run_path(argv[1], run_name="__main__")
        else:
            main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return status


def _serve() -> None:
    for name in MODULES + PACKAGES:
        loaded = importlib.import_module(name)
        for one in pkgutil.walk_packages(loaded.__path__, f"{name}.") if name in PACKAGES else ():
            importlib.import_module(one.name)
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for line in sys.stdin:
        job = json.loads(line)
        if isinstance(job, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
        elif (answer := os.fork()) == 0:
            argv = job.pop("argv")
            _prepare(**job)
            os._exit(_run(argv))  # the threads that C++ would join at the end are those of the parent
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
