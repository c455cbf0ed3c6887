"""Checks before a run that its settings fit the model, the installed packages and the folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.errors import UserError, text_for_user, user_errors
from seg_pipeline.hooks.run_info import file_of, value_of

if TYPE_CHECKING:
    import pandas as pd

    from seg_pipeline.params import HparamSearchParams
    from seg_pipeline.segmentation.inference.annotations import Images
    from seg_pipeline.segmentation.settings.training_config import TrainingConfig

log = logging.getLogger(__name__)

TRAINING_NODES = ("training.train_model", "hparam_search.run_sanity_checks", "hparam_search.search_settings")
SEARCH_NODE = TRAINING_NODES[-1]
CONFIG_NODE = "training.choose_training_config"
PREDICTION_NODES = ("inference.predict_images", "annotate.write_annotations")
RANKING_NODE = "select.rank_images"
EXTRAS = {"onnx": "export", "onnxruntime": "predict"}
"""Extra that installs a module, if its name differs from the module's."""


class RunCheckHooks:
    """Stop a run before its first node, and before it is tracked."""

    # Registered after SampleHooks and so called before it: a run that cannot start draws no sample.
    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        if run_params.get("only_missing_outputs"):
            return  # Kedro decides only later which nodes to skip
        nodes = {node.name for node in pipeline.nodes}
        names = {name for name in pipeline.inputs() if name.startswith("params:")}
        params = SimpleNamespace(**{name.removeprefix("params:"): value_of(name, catalog) for name in names})
        check_extras(params, value_of("params:tracking", catalog) or {})
        check_outputs(pipeline, catalog)
        if nodes & set(PREDICTION_NODES):
            images = check_images("inference.images", params.inference.images, "what to predict")
            if PREDICTION_NODES[1] in nodes:
                check_annotated(images, params.annotate.images)
            check_masks_folder(params.inference.output_folder)
        if RANKING_NODE in nodes:
            check_images("select.images", params.select.images, "what to choose from")
        if SEARCH_NODE in nodes:
            check_database(params.hparam_search.pool.storage)
        if nodes & set(TRAINING_NODES):
            check_model(params)
            if "manifest" not in pipeline.all_outputs():
                check_leakage(catalog)

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog) -> None:
        """Check leakage now if this run makes the manifest; the training nodes never see the test split."""
        if node.name == CONFIG_NODE:
            check_leakage(catalog)


def check_extras(params: Any, tracking: dict[str, Any]) -> None:
    """Raise UserError if a setting needs a package that is not installed."""
    needed: dict[str, str] = {}
    if tracking.get("enabled", True):
        needed |= {name: f"tracking.to: {name}" for name in tracking.get("to", ()) if name != "mlflow"}
    if (training := getattr(params, "training", None)) and training.sampling.albumentations:
        needed["albumentations"] = f"training.sampling.albumentations: {training.sampling.albumentations}"
    if (export := getattr(params, "export", None)) and {"onnx", "int8"} & set(export.formats):
        needed["onnx"] = "export.formats: onnx"
    if (inference := getattr(params, "inference", None)) and inference.model != "checkpoint":
        needed["onnxruntime"] = f"inference.model: {inference.model}"
    for module, setting in needed.items():
        if find_spec(module) is None:
            extra = EXTRAS.get(module, module)
            raise UserError(f"{setting} needs a package that is not installed; `pip install 'seg_pipeline[{extra}]'`")


def check_outputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Raise UserError if a data set cannot be made, or an output cannot be written."""
    for name in sorted(pipeline.datasets()):
        try:
            file = file_of(catalog.get(name))
        except DatasetError as error:  # such as s3:// without s3fs
            raise UserError(f"conf/: {' '.join(str(error).split())}") from error
        if file is None or name not in pipeline.all_outputs():
            continue
        parent = next((folder for folder in file.absolute().parents if folder.exists()), None)
        if parent is None or (parent.is_dir() and os.access(parent, os.W_OK)):
            continue
        reason = "no permission to write" if parent.is_dir() else "a file, not a folder"
        raise UserError(
            f"{parent}: {reason}, so `{name}` cannot be saved in {file.parent}; choose another folder for all outputs "
            "with `--params data_root=FOLDER`"
        )


def check_images(name: str, value: str | None, purpose: str) -> pd.DataFrame:
    """Find the images that parameter ``name`` selects; raise UserError if there are none."""
    from seg_pipeline.segmentation.inference import find_images

    if value is None:
        raise UserError(
            f"`{name}` must say {purpose}: `--params {name}=FOLDER`, or an image, a glob or a list of images"
        )
    with user_errors(f"{name}: "):
        return find_images(value)[0]


def check_annotated(images: pd.DataFrame, mode: Images) -> None:
    """Raise UserError if annotations cannot refer to the images in this mode."""
    from seg_pipeline.segmentation.inference.annotations import files_of

    with user_errors():
        files_of(images, mode)


def check_masks_folder(folder: str | None) -> None:
    """Raise UserError if masks cannot be written to ``folder``."""
    if folder and Path(folder).is_file():
        raise UserError(f"inference.output_folder: {folder} is a file; name a folder for the masks")


def check_database(url: str | None) -> None:
    """Raise UserError if the database server of a search's study cannot be used."""
    if url is None or url.startswith("sqlite"):
        return
    from seg_pipeline.segmentation.search.study import open_database

    with user_errors():
        open_database(url).engine.dispose()


def check_model(params: Any) -> None:
    """Raise UserError if a model is unknown, cannot be built, or cannot train on images of the input size."""
    log.info("checking the settings and the network; importing torch takes some seconds")
    from seg_pipeline.params import make_training_config
    from seg_pipeline.segmentation.models.input_check import min_batch_size
    from seg_pipeline.segmentation.models.networks import check_names
    from seg_pipeline.segmentation.models.trained_weights import check_fit
    from seg_pipeline.segmentation.training.devices import pick_device
    from seg_pipeline.segmentation.training.run import check_batch_norm

    config = make_training_config(params.dataset, params.scores, params.training, params.seed)
    compute, batch = params.training.compute, config.sampling.batch_size
    try:
        for names in _models(config, getattr(params, "hparam_search", None)):
            check_names(*names)
        check_fit(config, params.training.folds)
        smallest_batch = min_batch_size(config)
        if batch != "auto" and (compute.processes == 1 or pick_device(compute.device).type == "cpu"):
            check_batch_norm(config, batch, smallest_batch, compute.processes)
    except (ValueError, TypeError) as error:
        model = config.model
        text = text_for_user(error) or f": {model.architecture} cannot be built with {model.encoder}: {error}"
        raise UserError(
            text if text.startswith("`") else f"training.model{'' if text[0] == ':' else '.'}{text}"
        ) from error


def check_leakage(catalog: DataCatalog) -> None:
    """Raise UserError if the weights to start from have seen test images or were trained on validation images."""
    names = ("dataset", "scores", "training", "seed")
    dataset, scores, training, seed = (value_of(f"params:{name}", catalog) for name in names)
    if training is None or training.start_from is None:
        return
    from seg_pipeline.params import make_training_config
    from seg_pipeline.segmentation.training.run import check_start

    config = make_training_config(dataset, scores, training, seed)
    with user_errors():
        check_start(value_of("manifest", catalog), config, folds=training.folds, allowed=training.allow_leakage)


def _models(config: TrainingConfig, search: HparamSearchParams | None) -> Iterator[tuple[Any, ...]]:
    """Architecture, encoder and weights of the training and of each trial that a search may sample."""
    fixed = {key: [getattr(config.model, key)] for key in ("architecture", "encoder", "encoder_weights")}
    space = search.tpe.space if search else {}
    sampled = {key: choices for key in fixed if isinstance(choices := space.get(f"model.{key}"), list)}
    yield from (*product(*fixed.values()), *product(*(fixed | sampled).values()))
