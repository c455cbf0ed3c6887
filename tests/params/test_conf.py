"""Every environment under conf/ is loaded, validated and fits the pipelines."""

from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from seg_pipeline.params import Parameters, make_training_config
from seg_pipeline.settings import CONFIG_LOADER_ARGS, CONFIG_LOADER_CLASS

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = sorted(folder.name for folder in (ROOT / "conf").iterdir() if (folder / "globals.yml").exists())


def open_context(env, **runtime_params):
    bootstrap_project(ROOT)
    session = KedroSession.create(ROOT, env=None if env == "base" else env, runtime_params=runtime_params)
    return session, session.load_context()


@pytest.mark.slow
@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_an_environment_fits_models_and_pipelines(env, tmp_path):
    from kedro.framework.project import pipelines

    session, context = open_context(env, data_root=str(tmp_path / "out"))
    with session:
        given = Parameters.model_validate(context.config_loader["parameters"])
        make_training_config(given.dataset, given.scores, given.training, given.seed)
        free = {name for name in pipelines["__default__"].inputs() if not name.startswith("params:")}
        catalog = context.catalog  # made anew at each look
        assert free <= set(catalog.keys())
        saved = [catalog[name]._filepath for name in pipelines["__default__"].all_outputs()]
        assert all(str(path).startswith(str(tmp_path / "out")) for path in saved)


def test_environments_do_not_share_outputs():
    roots = [Path(conf).read_text().split("data_root:")[1].split()[0] for conf in ROOT.glob("conf/*/globals.yml")]
    assert len(set(roots)) == len(ENVIRONMENTS) == len(roots)


def test_the_catalog_has_an_entry_for_every_dataset_and_no_other():
    from kedro.framework.project import pipelines

    session, context = open_context("base")
    with session:
        used = set().union(*(pipeline.datasets() for pipeline in pipelines.values()))
        declared = set(context.catalog)
    assert {name for name in used if not name.startswith("params:")} == {
        name for name in declared if not name.startswith("params:") and name != "parameters"
    }


LAYERS = ["raw", "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting"]


def test_layers_only_rise_so_that_kedro_viz_can_draw_them():
    from kedro.framework.project import pipelines

    session, context = open_context("base")
    with session:
        catalog = context.catalog
        datasets = {name: catalog[name] for name in catalog if ":" not in name and name != "parameters"}
    layer = {name: LAYERS.index(one.metadata["kedro-viz"]["layer"]) for name, one in datasets.items()}
    for node in pipelines["__default__"].nodes:
        inputs = [layer[name] for name in node.inputs if name in layer]
        assert max(inputs) <= min(layer[name] for name in node.outputs), node.name


READS_THE_TEST_SPLIT = {
    "agreement": "compares two sets of masks; nothing that is trained or chosen reads what it makes",
    "combine": "makes the manifest in place of data_processing",
    "data_processing": "makes the splits and the manifest",
    "eda": "shows all data; nothing that is trained or chosen reads what it makes",
    "evaluation": "scores the test split",
    "export_nnunet": "hands the data over to another trainer, with its splits",
    "reporting": "shows the scores",
    "select": "keeps near-copies of test images out of the pseudo-labels, and reads none of their masks",
}


def test_what_is_trained_or_chosen_never_sees_the_test_split():
    """Of all that a model, a setting or a postprocessing is made of, only `train_val_images` comes from the images."""
    from kedro.framework.project import pipelines

    bootstrap_project(ROOT)
    makers = {name: pipelines[name] for name in pipelines if name != "__default__"}
    readers = {name for name, pipeline in makers.items() if "manifest" in pipeline.datasets()}
    assert readers <= set(READS_THE_TEST_SPLIT)
    held_out = makers["data_processing"].all_outputs() - {"train_val_images"}
    held_out |= makers["eda"].all_outputs() | {"predictions", "test_scores", "image_scores", "confusion_counts"}
    del makers["combine"]  # a pipeline cannot make the manifest twice
    everything = sum(makers.values(), start=pipelines["__default__"])
    data = {node.name for node in makers["data_processing"].nodes}
    chosen = [
        "checkpoint",
        "last_checkpoint",
        "training_config",
        "postprocessing",
        "threshold_curve",
        "prediction_options",
    ]
    chosen += [name for name in everything.all_outputs() if name.startswith(("search", "best_"))]
    steps = [node for node in everything.to_outputs(*chosen).nodes if node.name not in data]
    expected = {"training.train_model", "evaluation.choose_postprocessing", "evaluation.measure_options"}
    assert expected <= {node.name for node in steps}
    for node in steps:
        assert not held_out & set(node.inputs), f"{node.name} reads {held_out & set(node.inputs)}"


def test_the_table_without_the_test_split_is_checked_by_its_marker():
    from seg_pipeline.segmentation.manifest.table_schemas import TRAIN_VAL_IMAGES

    session, context = open_context("base")
    with session:
        entry = context.config_loader["catalog"]["train_val_images"]
    assert entry["validator"] == "seg_pipeline.segmentation.manifest.table_schemas.TRAIN_VAL_IMAGES"
    (split,) = (column for column in TRAIN_VAL_IMAGES.columns if column.name == "split")
    assert split.one_of == ("train", "val")


def test_the_configuration_is_read_once_and_what_a_hook_changes_stays_its_own(tmp_path):
    for name in ("base", "local"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "globals.yml").write_text("width: 3")
    file = tmp_path / "base" / "parameters.yml"
    file.write_text("size: { width: '${globals:width}', height: 2 }")
    loader = CONFIG_LOADER_CLASS(str(tmp_path), runtime_params={"size": {"height": 5}}, **CONFIG_LOADER_ARGS)
    loader["parameters"]["size"]["width"] = 7
    file.unlink()
    assert loader["parameters"] == {"size": {"width": 3, "height": 5}}
    assert loader["globals"] == {"width": 3}
