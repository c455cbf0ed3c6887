"""What cannot work is refused before the first node, before a run is tracked and before the sample is drawn."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from fsspec.registry import _registry as file_systems
from kedro.config import OmegaConfigLoader
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks import run_checks
from seg_pipeline.hooks.errors import UserError
from seg_pipeline.params import Parameters
from seg_pipeline.segmentation.models.trained_weights import image_hashes

ROOT = Path(__file__).parents[2]


def parameters(**given) -> Parameters:
    """Those of the smoke environment, and the given ones."""
    loader = OmegaConfigLoader(str(ROOT / "conf"), env="smoke", base_env="base", default_run_env="local",
                               runtime_params=given, merge_strategy={"parameters": "soft"})  # fmt: skip
    return Parameters.model_validate(loader["parameters"])


def refusal(check, *given) -> str:
    with pytest.raises(UserError) as caught:
        check(*given)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"training": {"model": {"encoder": "resnet999"}}}, "training.model.encoder: 'resnet999' is unknown"),
        ({"tracking": {"to": ["nosuch"]}}, "1 parameter is wrong"),
        ({"out": "a file"}, "{folder}/out: a file, not a folder, so `"),
    ],
)
def test_a_run_that_cannot_work_writes_nothing(tmp_path, monkeypatch, given, message):
    """Neither a tracked run nor the sample."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    bootstrap_project(ROOT)
    folders = {"data_root": str(tmp_path / "out"), "raw_root": str(tmp_path / "raw")}
    if "out" in given:
        (tmp_path / "out").write_text(given.pop("out"))
    before = set(tmp_path.iterdir())
    with KedroSession.create(ROOT, env="smoke", runtime_params=folders | given) as session:
        said = refusal(session.run)
    assert said.startswith(message.format(folder=tmp_path))
    assert set(tmp_path.iterdir()) == before


def test_a_database_of_the_search_that_cannot_be_used_is_named():
    said = refusal(run_checks.check_database, "nowhere://me:secret@host/db")
    assert said.startswith("hparam_search.pool.storage: the database at nowhere://me:***@host/db cannot be used (")
    run_checks.check_database(None)
    run_checks.check_database("sqlite:///is/made/by/the/search.db")


MODELS = {
    "architecture": (
        {"architecture": "unett"},
        "training.model.architecture: 'unett' is unknown; the nearest known ones are unet, ",
    ),
    "encoder": (
        {"encoder": "resnet999"},
        "training.model.encoder: 'resnet999' is unknown; the nearest known ones are resnet",
    ),
    "weights": (
        {"encoder": "resnet34", "encoder_weights": "imagenett"},
        "training.model.encoder_weights: 'imagenett' is unknown for encoder 'resnet34'; expected null (random), one of "
        "['imagenet'",
    ),
    "pair": (
        {"architecture": "deeplabv3", "encoder": "vgg11", "encoder_weights": None},
        "training.model: deeplabv3 cannot be built with vgg11: 'VGG' models do not support dilated mode",
    ),
    "transformer": (
        {"encoder": "tu-test_vit", "encoder_weights": None},
        "training.model.architecture: 'unet' needs features of several sizes, but those of tu-test_vit have one",
    ),
    "file": (
        {"encoder": "tu-test_convnext", "encoder_weights": "no/such.safetensors"},
        "training.model.encoder_weights: there is no file no/such.safetensors",
    ),
    "channels": (
        {"architecture": "fpn", "decoder_channels": [32, 16]},
        "training.model.decoder_channels: 'fpn' takes none; dpt, manet, unet",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "message"), MODELS.values(), ids=MODELS)
def test_a_model_that_cannot_be_built(model, message):
    own = {"decoder_channels": None}
    given = parameters(training={"model": own | model})
    assert refusal(run_checks.check_model, given).startswith(message)


def test_a_model_among_those_that_a_search_may_draw():
    given = parameters(hparam_search={"tpe": {"space": {"model.encoder": ["resnet18", "resnet999"]}}})
    said = refusal(run_checks.check_model, given)
    assert said.startswith("training.model.encoder: 'resnet999' is unknown; the nearest known ones are resnet")


def test_weights_to_start_from_that_do_not_fit(config, checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    given = parameters(training={"start_from": str(tmp_path / "checkpoint.pt")})
    said = refusal(run_checks.check_model, given)
    assert said.startswith("`training.start_from`: the weights of ")
    assert f"`training.model.encoder` is {given.training.model.encoder}, there tu-test_efficientnet" in said


@pytest.mark.parametrize("moment", ["before the first node", "when the manifest is made"])
def test_images_that_the_weights_to_start_from_have_seen(config, checkpoint, manifest, tmp_path, moment):
    path = str(tmp_path / "checkpoint.pt")
    images = {split: torch.tensor(image_hashes(manifest).tolist()) for split in ("train", "val")}
    torch.save({"models": [checkpoint["models"][0] | {"images": images}]}, path)
    given = parameters(
        dataset={"classes": ["box", "disc"]},
        training={"start_from": path, "model": {"encoder": "tu-test_efficientnet", "decoder_channels": [16, 8, 8, 8]}},
    )
    catalog = DataCatalog({f"params:{name}": MemoryDataset(value) for name, value in given})
    catalog["manifest"] = MemoryDataset(manifest)
    trains = Node(lambda _: 0, "params:training", "config", name=run_checks.CONFIG_NODE)
    hooks = run_checks.RunCheckHooks()
    if moment == "before the first node":
        said = refusal(run_checks.check_leakage, catalog)
    else:
        said = refusal(hooks.before_node_run, trains, catalog)
    assert said.startswith(f"`training.start_from`: {path} has seen 3 test images (")
    assert said.endswith("or set `training.allow_leakage: true`")
    hooks.before_node_run(Node(lambda _: 0, "params:training", "config", name="training.other"), catalog)


def test_images_too_small_for_the_model():
    model = {"architecture": "pan", "decoder_channels": None}
    said = refusal(run_checks.check_model, parameters(training={"model": model, "input": {"size": 64}}))
    assert said.startswith("`training.input.size`: pan with tu-tf_efficientnet_lite0 takes no images of 64 x 64 (")
    assert said.endswith("; 128 x 128 would do")


def test_steps_of_single_images():
    given = parameters(training={"input": {"size": 32}, "sampling": {"batch_size": 1}})
    said = refusal(run_checks.check_model, given)
    assert said.startswith(
        "`training.sampling`: a step computes a single image at a time, which leaves batch norm in unet"
    )


def test_the_settings_of_the_smoke_environment_pass():
    run_checks.check_model(parameters())


def saving(file: object) -> tuple[Pipeline, DataCatalog]:
    entry = {"type": "seg_pipeline.datasets.atomic.ParquetDataset", "filepath": str(file)}
    return Pipeline([Node(lambda: 0, None, "findings", name="one")]), DataCatalog.from_config({"findings": entry})


def test_an_output_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(run_checks.os, "access", lambda folder, _: folder != tmp_path)
    assert refusal(run_checks.check_outputs, *saving(tmp_path / "out" / "findings.parquet")) == (
        f"{tmp_path}: no permission to write, so `findings` cannot be saved in {tmp_path}/out; choose another folder "
        "for all outputs with `--params data_root=FOLDER`"
    )


@pytest.mark.fault(
    scenario="table at s3:// without s3fs",
    command="kedro run",
    outcome="stops before the first node and names the package",
)
def test_a_data_set_on_s3_names_the_package_that_reads_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(file_systems, "s3", raising=False)  # where an earlier test has used it
    said = refusal(run_checks.check_outputs, *saving("s3://bucket/findings.parquet"))
    assert said.startswith("conf/: Install s3fs to access S3. Failed to instantiate dataset 'findings'")


IMAGES = {
    "none": ({}, "`inference.images` must say what to predict: `--params inference.images=FOLDER`"),
    "absent": ({"images": "/nowhere"}, "inference.images: /nowhere: no such file or folder; pass a folder"),
    "empty": ({"images": "{folder}/raw"}, "inference.images: {folder}/raw: "),
    "file": (
        {"images": "{folder}/raw/a.png", "output_folder": "{folder}/raw/a.png"},
        "inference.output_folder: {folder}/raw/a.png is a file; name a folder for the masks",
    ),
}


@pytest.mark.parametrize(("given", "message"), IMAGES.values(), ids=IMAGES)
def test_an_inference_without_images_or_folder(tmp_path, given, message):
    (tmp_path / "raw").mkdir()
    if "output_folder" in given:
        (tmp_path / "raw" / "a.png").touch()
    images, folder = (
        given[key].format(folder=tmp_path) if key in given else None for key in ("images", "output_folder")
    )
    if folder:
        said = refusal(run_checks.check_masks_folder, folder)
    else:
        said = refusal(run_checks.check_images, "inference.images", images, "what to predict")
    assert said.startswith(message.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "`select.images` must say what to choose from: `--params select.images=FOLDER`"),
        ("/nowhere", "select.images: /nowhere: no such file or folder"),
    ],
)
def test_nothing_to_choose_from(images, message):
    assert refusal(run_checks.check_images, "select.images", images, "what to choose from").startswith(message)


def test_annotations_that_name_images_at_an_address(monkeypatch):
    monkeypatch.setattr(
        run_checks, "check_images", lambda *_: pd.DataFrame({"image_id": ["a"], "path": ["s3://b/a.png"]})
    )
    inference = SimpleNamespace(images="s3://b", output_folder=None, model="checkpoint")
    for how in ("copy", "reference"):
        given = {"inference": inference, "annotate": SimpleNamespace(images=how), "tracking": {"enabled": False}}
        inputs = [f"params:{name}" for name in given]
        catalog = DataCatalog({f"params:{name}": MemoryDataset(value) for name, value in given.items()})
        nodes = Pipeline([Node(lambda *_: 0, inputs, "polygons", name="annotate.write_annotations")])
        check = run_checks.RunCheckHooks().before_pipeline_run
        if how == "copy":
            check({}, nodes, catalog)
        else:
            assert refusal(check, {}, nodes, catalog) == (
                "annotate.images: reference, but s3://b/a.png is not a file of this machine; set `copy`"
            )


EXTRAS = {
    "wandb": ({"tracking": {"to": ["wandb"]}}, "wandb", "tracking.to: wandb"),
    "onnx": ({"export": {"formats": ["onnx"]}}, "export", "export.formats: onnx"),
    "onnxruntime": ({"inference": {"model": "bundle"}}, "predict", "inference.model: bundle"),
}


@pytest.mark.parametrize("module", EXTRAS)
def test_a_setting_whose_extra_is_not_installed(monkeypatch, module):
    monkeypatch.setattr(run_checks, "find_spec", lambda name: None if name == module else sys)
    given, extra, setting = EXTRAS[module]
    params = parameters(**given)
    assert refusal(run_checks.check_extras, params, params.tracking.model_dump()) == (
        f"{setting} needs a package that is not installed; `pip install 'seg_pipeline[{extra}]'`"
    )
    run_checks.check_extras(SimpleNamespace(), {"enabled": False, "to": ["wandb"]})
