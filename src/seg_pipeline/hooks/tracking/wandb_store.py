"""The Weights & Biases store (extra ``wandb``), configured by wandb's own settings such as ``WANDB_MODE=offline``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_pipeline.hooks.tracking.tracker import Row, Run, Status, Tracker, Unavailable

if TYPE_CHECKING:
    import wandb

IMAGE_SUFFIXES = (".png", ".jpg", ".gif")


class WandbTracker(Tracker):
    """An experiment is a wandb project; a run and its nested runs form a group."""

    title = "wandb"

    def __init__(self, project: Path, *, system_metrics: bool = False) -> None:
        self._folder, self._system_metrics = project, system_metrics
        self._runs: dict[str, wandb.Run] = {}
        self._locations: dict[str, str] = {}

    def failures(self) -> tuple[type[Exception], ...]:
        try:
            from wandb.errors import Error
        except ImportError:
            return super().failures()
        return Error, *super().failures()

    def start(self, run: Run) -> None:
        if run.key in self._runs:
            return
        wandb = _wandb()
        self._runs[run.key] = wandb.init(
            project=run.experiment,
            id=run.key,
            name=run.name,
            group=run.parent or run.key,
            job_type="nested" if run.parent else "run",
            resume="allow",
            reinit="create_new",  # a nested run is open at the same time as its parent
            dir=os.environ.get("WANDB_DIR") or str(self._folder),
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                x_disable_stats=bool(run.parent) or not self._system_metrics,
            ),
        )
        stored = self._runs[run.key]
        folder = Path(stored.dir).parent
        self._locations[run.key] = (
            f"in {folder}; upload with: wandb sync {folder}" if stored.offline else str(stored.url)
        )
        # W&B's own step must increase; epochs start again in each fold.
        stored.define_metric("*", step_metric="epoch")

    def where(self, run: Run) -> str:
        return f"wandb run {run.key} {self._locations[run.key]}"

    def params(self, run: str, values: dict[str, Any]) -> None:
        self._runs[run].config.update(values, allow_val_change=True)

    def tags(self, run: str, values: dict[str, str]) -> None:
        self.params(run, {"about": {**self._runs[run].config.get("about", {}), **values}})

    def metrics(self, run: str, rows: list[Row], at: int) -> None:  # noqa: ARG002  wandb adds the time
        for row in rows:
            self._runs[run].log({**row["values"], "epoch": row["step"]})

    def artifact(self, run: str, path: str, folder: str) -> None:
        self._log_files(run, path, Path(path).stem, folder)

    def figure(self, run: str, path: str) -> None:
        if Path(path).suffix in IMAGE_SUFFIXES:
            self._runs[run].log({f"figures/{Path(path).stem}": _wandb().Image(path)})
        else:
            super().figure(run, path)

    def image(self, run: str, path: str, name: str, step: int, at: int) -> None:  # noqa: ARG002
        self._runs[run].log({f"images/{name}": _wandb().Image(path), "epoch": step})

    def rename(self, run: str, name: str) -> None:
        self._runs[run].name = name

    def model(self, run: str, path: str, name: str) -> None:
        self._log_files(run, path, name, "model")

    def finish(self, run: str, status: Status) -> None:
        self.tags(run, {"status": status})
        self._runs.pop(run).finish(exit_code=0 if status == "FINISHED" else 1)

    def _log_files(self, run: str, path: str, name: str, kind: str) -> None:
        artifact = _wandb().Artifact(f"{run}-{name}", type=kind)
        if Path(path).is_dir():
            artifact.add_dir(path)
        else:
            artifact.add_file(path)
        self._runs[run].log_artifact(artifact)


def _wandb() -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")  # the run's summary says where it is
    try:
        import wandb
    except ImportError as error:
        raise Unavailable("it is not installed; run pip install 'seg_pipeline[wandb]'") from error
    return wandb
