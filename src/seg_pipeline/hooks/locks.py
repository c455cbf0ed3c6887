"""Let only one run at a time write to an output folder, because a second one would overwrite its checkpoints."""

import contextlib
import json
import logging
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.run_info import command_for, pipelines_of
from seg_pipeline.segmentation.storage.locks import HeldError, held

log = logging.getLogger(__name__)

FOLDER = ".locks"
HAS_OWN_LOCK = "hparam_search"
"""The search locks its study (segmentation/search/study.py)."""


class LockHooks:
    """Hold one lock per pipeline in ``data_root`` during a run; the system releases them if the process is killed."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        config = context.config_loader
        data_root = {**config["globals"], **(config.runtime_params or {})}.get("data_root")
        if "://" in str(data_root):
            raise UserError(
                f"data_root: {data_root} is an address, but checkpoints, caches and locks need a folder; mount the "
                "bucket (`rclone mount`) or copy the outputs. `raw_root` and tables of the catalog may be addresses"
            )
        self._project, self._root = Path(context.project_path), config["globals"].get("data_root", "data")
        self._wait = config["parameters"].get("concurrent_run") == "wait"

    # Registered before InputHooks and so called after it: a run that cannot start takes no lock.
    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        self._release()
        root = (run_params.get("runtime_params") or {}).get("data_root", self._root)
        folder = self._project / root / FOLDER
        names = sorted({str(node.namespace).partition(".")[0] for node in pipeline.nodes} - {HAS_OWN_LOCK})
        command = command_for(",".join(pipelines_of(run_params)) or "__default__", run_params)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                self._acquire(folder / f"{name}.lock", command)
        except UserError:
            self._release()
            raise
        except OSError as error:  # such as a read-only folder; saving the outputs will say so
            log.debug("no lock in %s: %s", folder, error)

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._release()

    @hook_impl(tryfirst=True)  # ErrorHooks raises
    def on_pipeline_error(self) -> None:
        self._release()

    def _acquire(self, path: Path, command: str) -> None:
        holder = {"process": os.getpid(), "host": socket.gethostname(), "command": command,
                  "since": datetime.now().astimezone().isoformat(" ", "seconds")}  # fmt: skip
        try:
            self._held.enter_context(held(path, json.dumps(holder)))
        except HeldError as other:
            if not self._wait:
                raise UserError(
                    f"another run of `{path.stem}` writes to {path.parent.parent}: {_holder_text(str(other))}. Wait "
                    "for it, give this run another `data_root`, or let it wait with `--params concurrent_run=wait`"
                ) from None
            log.info("waiting for another run of `%s`: %s", path.stem, _holder_text(str(other)))
            self._held.enter_context(held(path, json.dumps(holder), wait=True))

    def _release(self) -> None:
        self._held.close()


def _holder_text(content: str) -> str:
    """Describe the process that holds a lock from the content of its lock file, which may be half written."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        holder = json.loads(content)
        return f"process {holder['process']} on {holder['host']}, `{holder['command']}`, since {holder['since']}"
    return "a process that has just started"
