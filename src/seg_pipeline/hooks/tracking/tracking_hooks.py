"""Kedro hooks that log the parameters, curves, scores, figures, reports and models of a run."""

import functools
import json
import logging
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from seg_pipeline.hooks.run_info import command_for, file_of, pipelines_of, value_of
from seg_pipeline.hooks.tracking import environment_tags
from seg_pipeline.hooks.tracking.metrics import EPOCH_METRICS, score_metrics, score_tags
from seg_pipeline.hooks.tracking.outbox import Outbox
from seg_pipeline.hooks.tracking.recorder import RunRecorder, history_curves, now, trial_curves
from seg_pipeline.hooks.tracking.resume import (
    TrackedTraining,
    is_complete,
    settings_hash,
    state_file,
    unfinished_training,
)
from seg_pipeline.hooks.tracking.settings_used import UsedSettings, run_name
from seg_pipeline.hooks.tracking.termination import TerminationHandler
from seg_pipeline.hooks.tracking.tracker import Run, Status, Tracker
from seg_pipeline.segmentation.settings.training_config import flat
from seg_pipeline.segmentation.storage.atomic import ScratchFolder

log = logging.getLogger(__name__)

MANIFESTS = ("manifest", "train_val_images")
CHECKPOINTS = ("checkpoint", "trained_checkpoint")
EPOCH_FIGURES = ("validation_sheet",)
"""Figures to compare over epochs and runs."""
FOLDERS = {".html": "pages", ".md": "pages", ".json": "results"}
"""Artifact folder per file suffix; figures have their own."""
FIGURE_SUFFIXES = (".png", ".gif", ".mp4")


def warns_on_os_error(hook: Callable[..., None]) -> Callable[..., None]:
    """Turn an OSError of a hook, such as a full disk, into one warning, so that the run continues."""

    @functools.wraps(hook)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except OSError as error:
            level = logging.DEBUG if self._has_warned else logging.WARNING
            log.log(level, "tracking: %s. The run continues, but it is not tracked completely", error)
            self._has_warned = True

    return wrapper


class TrackingHooks:
    """Logs a run to the stores of parameter ``tracking.to``, unless ``tracking.enabled`` is false."""

    def __init__(self) -> None:
        self.where: str | None = None
        """For the summary: one line per store, with the run and the command that shows it."""
        self._recorder: RunRecorder | None = None
        self._epoch = 0
        self._has_warned = False
        self._termination = TerminationHandler(self._finish)

    @hook_impl(trylast=True)  # after the hooks that may stop the run
    @warns_on_os_error
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        settings = _plain(value_of("params:tracking", catalog) or {})
        if not settings.get("enabled", True):
            return
        stores_models = set(settings.get("to", ["mlflow"])) != {"tensorboard"}
        self._catalog, self._log_model = catalog, settings.get("log_model", True) and stores_models
        self._logged: dict[str, Any] = {}
        self._max_metrics = settings.get("max_metrics", 40)
        self._scratch = ScratchFolder()
        values = run_values(pipeline.inputs(), catalog)
        awaits_config = bool({"training_config", *CHECKPOINTS} & pipeline.datasets())
        from_command_line = flat(run_params.get("runtime_params") or {})
        self._settings = UsedSettings(flat(values), from_command_line, awaits_config=awaits_config)
        self._env_and_pipelines = (run_params.get("env"), pipelines_of(run_params))
        recorder = self._start(settings, run_params, pipeline, values)
        self._describe_run(recorder, run_params)
        self._log_settings(recorder)

    @hook_impl
    @warns_on_os_error
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        if dataset_name in MANIFESTS:
            self._track_data(dataset_name, data)
        elif dataset_name in CHECKPOINTS and data and self._recorder is not None:
            self._update_settings(self._recorder, data["models"][0]["config"], final=True)

    @hook_impl
    @warns_on_os_error
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        if dataset_name == "training_config":
            self._update_settings(recorder, data, final=False)
            self._track_file(recorder, dataset_name, data)
        elif dataset_name == "last_checkpoint":
            self._training.finished = is_complete(data)
            self._update_settings(recorder, data["current"]["config"], final=True)
        elif dataset_name == "training_history":  # saved last of the three outputs of an epoch
            recorder.curves(history_curves(data))
            self._epoch = int(data["epoch"].iloc[-1]) if len(data) else 0
            self._track_device(recorder)
            self._track_training(recorder)
        elif dataset_name == "search_trials":
            recorder.curves(trial_curves(data))
            self._track_device(recorder)
        elif dataset_name == "bundle":
            self._track_bundle(recorder)
        elif dataset_name in MANIFESTS:
            self._track_data(dataset_name, data)
        else:
            self._track_file(recorder, dataset_name, data)

    @hook_impl
    @warns_on_os_error
    def after_pipeline_run(self) -> None:
        self._finish("FINISHED")

    @hook_impl
    @warns_on_os_error
    def on_pipeline_error(self, error: Exception) -> None:
        stopped = type(error).__name__ == "SignalException"  # torch's multi-process launcher received SIGTERM
        self._finish("KILLED" if stopped else "FAILED")

    def _start(
        self, settings: dict[str, Any], run_params: dict[str, Any], pipeline: Pipeline, values: dict[str, Any]
    ) -> RunRecorder:
        project = Path(run_params["project_path"])
        interrupted = unfinished_training(pipeline, self._catalog, values)
        self._training = interrupted or TrackedTraining(uuid.uuid4().hex, settings_hash(values))
        self._training.begun = self._training.begun or now()
        if interrupted:
            log.info("tracking: resuming the run of the interrupted training")
        run = Run(self._training.key, self._name(), settings.get("experiment", "seg_pipeline"), self._training.begun)
        system = settings.get("system_metrics", False)
        outboxes = [
            Outbox(make_tracker(name, project, system_metrics=system), project)
            for name in settings.get("to", ["mlflow"])
        ]
        self._recorder = RunRecorder(run, outboxes, self._training.logged)
        self._termination.start()
        self.where = self._recorder.where()
        for line in self.where.splitlines():
            log.info("%s", line)
        return self._recorder

    def _name(self) -> str:
        start = time.strftime("%Y-%m-%d %H:%M", time.localtime(self._training.begun / 1000))
        return run_name(*self._env_and_pipelines, self._settings.encoder, start)

    def _update_settings(self, recorder: RunRecorder, config: dict[str, Any], *, final: bool) -> None:
        if self._settings.update(config, final=final):
            recorder.rename(self._name())
            self._log_settings(recorder)

    def _log_settings(self, recorder: RunRecorder, *, at_end: bool = False) -> None:
        """Log the settings that have become final since the last call, and rewrite the file of all settings."""
        new = self._settings.new(at_end=at_end)
        if not new:
            return
        recorder.log("params", values=new)
        recorder.log("tags", values=self._settings.sources())
        file = Path(self._scratch.name) / "parameters.json"  # stores truncate long values
        file.write_text(json.dumps(self._settings.values(), indent=1, default=str), encoding="utf-8")
        recorder.log("artifact", path=str(file), folder="results")

    def _describe_run(self, recorder: RunRecorder, run_params: dict[str, Any]) -> None:
        project = Path(run_params["project_path"])
        command = command_for(",".join(pipelines_of(run_params)) or "__default__", run_params)
        kedro = {
            # mlflow's UI shows only what follows the last slash
            "mlflow.source.name": command.partition(" --params")[0],
            "kedro.command": command,
            "kedro.pipelines": ", ".join(pipelines_of(run_params)) or "default",
            "kedro.env": run_params.get("env") or "local",
            "kedro.run_id": str(run_params.get("run_id")),
        }
        tags = kedro | environment_tags.code_tags(project) | environment_tags.package_tags()
        recorder.log("tags", values=tags)
        file = Path(self._scratch.name) / "packages.txt"
        file.write_text(environment_tags.packages(), encoding="utf-8")
        recorder.log("artifact", path=str(file), folder="results")

    def _track_data(self, name: str, table: Any) -> None:
        if self._recorder is not None and name not in self._logged:
            self._logged[name] = True
            self._recorder.log("tags", values=environment_tags.data_tags(name, table))

    def _track_device(self, recorder: RunRecorder) -> None:
        if "device" not in self._logged:
            self._logged["device"] = True
            training = _plain(value_of("params:training", self._catalog) or {})
            device = training.get("compute", {}).get("device", "auto")
            recorder.log("tags", values=environment_tags.device_tags(device))

    def _track_training(self, recorder: RunRecorder) -> None:
        file = state_file(self._catalog)
        if file is not None and file.parent.is_dir():
            self._training.save(file)
        if self._training.finished and self._log_model and "checkpoint" in self._catalog:
            self._track_model(recorder)

    def _track_model(self, recorder: RunRecorder) -> None:
        from seg_pipeline.hooks.tracking.mlflow_models import save_checkpoint_model

        folder = save_checkpoint_model(self._catalog["checkpoint"].load(), self._new_folder())
        recorder.log("model", path=str(folder), name="model")

    def _track_bundle(self, recorder: RunRecorder) -> None:
        from seg_pipeline.hooks.tracking.mlflow_models import save_bundle_model

        if bundle := file_of(self._catalog["bundle"]):
            recorder.log("artifact", path=str(bundle), folder="bundle")
            recorder.log("model", path=str(save_bundle_model(bundle, self._new_folder())), name="bundle_model")

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._scratch.name))

    def _track_file(self, recorder: RunRecorder, name: str, data: Any) -> None:
        if name == "test_scores":
            recorder.scores(score_metrics(data, self._max_metrics - len(EPOCH_METRICS)))
            recorder.log("tags", values=score_tags(data))
        file = file_of(self._catalog.get(name))
        suffix = "" if file is None else file.suffix
        if _is_figure(data) or suffix in FIGURE_SUFFIXES:
            self._track_figure(recorder, name, data, file)
        elif file is not None and suffix in FOLDERS and file.is_file():
            recorder.log("artifact", path=str(file), folder=FOLDERS[suffix])

    def _track_figure(self, recorder: RunRecorder, name: str, figure: Any, file: Path | None) -> None:
        if self._logged.get(f"figure {name}") is figure:
            return  # the same figure, saved again
        self._logged[f"figure {name}"] = figure
        if (file is None or not file.is_file()) and hasattr(figure, "savefig"):
            file = Path(self._scratch.name) / f"{name}.png"
            figure.savefig(file)
        if file is None or not file.is_file():
            return
        if name.rpartition(".")[2] in EPOCH_FIGURES:
            recorder.image(str(file), name.rpartition(".")[2], self._epoch)
        else:
            recorder.log("figure", path=str(file))

    def _finish(self, status: Status) -> None:
        self._termination.stop()
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        try:
            self._log_settings(recorder, at_end=True)
        finally:
            journals = recorder.finish(status)
            self.where = recorder.where()
            self._scratch.cleanup()
            for file in journals:
                log.warning("tracking: calls that failed are kept in %s; the next run sends them", file)


def run_values(inputs: set[str], catalog: DataCatalog) -> dict[str, Any]:
    """Values of the parameters that a pipeline reads, by YAML key."""
    names = sorted(name for name in inputs if name.startswith("params:"))
    return {name.removeprefix("params:"): _plain(value_of(name, catalog)) for name in names}


def _plain(value: Any) -> Any:
    """A typed parameter as a dict with the keys of YAML."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.model_dump(mode="json", by_alias=True) if hasattr(value, "model_dump") else value


def _is_figure(data: object) -> bool:
    """Whether it is a Matplotlib or Plotly figure; imports neither, as a figure means that it is already imported."""
    modules = [sys.modules.get(name) for name in ("matplotlib.figure", "plotly.graph_objs")]
    return any(isinstance(data, module.Figure) for module in modules if module is not None)


def make_tracker(name: str, project: Path, *, system_metrics: bool = False) -> Tracker:
    """The store of that name; its package is imported on first use. TensorBoard has no system metrics."""
    if name == "wandb":
        from seg_pipeline.hooks.tracking.wandb_store import WandbTracker

        return WandbTracker(project, system_metrics=system_metrics)
    if name == "tensorboard":
        from seg_pipeline.hooks.tracking.tensorboard_files import TensorboardTracker

        return TensorboardTracker(project)
    from seg_pipeline.hooks.tracking.mlflow_store import MlflowTracker

    return MlflowTracker(project, system_metrics=system_metrics)
