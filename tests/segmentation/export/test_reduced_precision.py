import re
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from seg_pipeline.segmentation.export import add_int8, bundle_predictor, drop_inaccurate_formats
from seg_pipeline.segmentation.export.validation import input_images
from seg_pipeline.segmentation.prediction.bundle import Bundle, describe_file
from seg_pipeline.segmentation.prediction.predictor import Predictor
from seg_pipeline.segmentation.settings.training import ScoreSettings

SCORES = ScoreSettings(aggregation="dataset")


@pytest.fixture(scope="module")
def quantised(bundle_folder, manifest, tmp_path_factory):
    folder = shutil.copytree(bundle_folder, tmp_path_factory.mktemp("int8") / "bundle")
    bundle = add_int8(Bundle.read(folder), manifest.head(4))
    bundle.write()
    return bundle


def test_int8_is_smaller_and_gives_nearly_the_same(quantised, manifest):
    sizes = {bundle_format: file.bytes for bundle_format, file in quantised.networks[0].files.items()}
    assert sizes["int8"] < 0.7 * sizes["onnx"]
    exact, eight = Predictor(quantised.folder, threads=1), Predictor(quantised.folder, threads=1, bundle_format="int8")
    (image,) = input_images(manifest.head(1), quantised.input)
    mine, theirs = exact.probabilities(image), eight.probabilities(image)
    assert 0 < np.abs(mine - theirs).max() < 0.2


def test_the_first_and_the_last_convolution_stay_exact(quantised):
    """Their weights are float32; those of all others come from int8."""
    graph = onnx.load(quantised.folder / "model.int8.onnx").graph
    exact = {one.name for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) == 4}
    found = [node.input[1] in exact for node in graph.node if node.op_type == "Conv"]
    assert found == [True, *[False] * (len(found) - 2), True]


def test_each_fold_has_its_int8_though_the_first_alone_predicts(bundle_folder, manifest, tmp_path):
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")
    shutil.copy(folder / "model.onnx", folder / "model_2.onnx")
    bundle = Bundle.read(folder)
    second = replace(bundle.networks[0], files={"onnx": describe_file(folder / "model_2.onnx")})
    first = replace(bundle.prediction, ensemble="first")
    made = add_int8(replace(bundle, networks=(bundle.networks[0], second), prediction=first), manifest.head(1))
    assert [network.files["int8"].name for network in made.networks] == ["model.int8.onnx", "model_2.int8.onnx"]


@pytest.mark.parametrize(("max_drop", "kept"), [(1.0, True), (-1.0, False)])
def test_a_form_is_kept_where_its_dice_falls_by_less_than_stated(
    quantised, checkpoint, manifest, tmp_path, max_drop, kept
):
    """No Dice falls by more than 1, and each by more than -1."""
    shutil.copytree(quantised.folder, tmp_path / "bundle")
    bundle = Bundle.read(tmp_path / "bundle")
    rows = manifest[manifest["split"] == "val"]
    checked = drop_inaccurate_formats(bundle, checkpoint, rows, SCORES, max_drop=max_drop)
    assert ("int8" in checked.formats, (tmp_path / "bundle" / "model.int8.onnx").exists()) == (kept, kept)
    quality = checked.provenance["quality"]
    assert (quality["num_images"], quality["split"], quality["max_drop"]) == (3, "val", max_drop)
    assert [(one["format"], one["kept"]) for one in quality["formats"]] == [("int8", kept)]
    if not kept:
        dice, trained = quality["formats"][0]["dice"], quality["formats"][0]["dice_trained"]
        told = f"safetensors. The export left it out: its Dice is {dice}, the trained model's {trained}; "
        with pytest.raises(ValueError, match=re.escape(told)):
            checked.paths("int8")


def test_without_inexact_forms_nothing_is_measured(bundle_folder, checkpoint, manifest):
    bundle = Bundle.read(bundle_folder)
    assert drop_inaccurate_formats(bundle, checkpoint, manifest, SCORES, max_drop=0) is bundle


def test_a_bundle_runs_from_each_form(bundle_folder, manifest):
    bundle = Bundle.read(bundle_folder)
    (image,) = input_images(manifest.head(1), bundle.input)
    found = [bundle_predictor(bundle, bundle_format).probabilities(image) for bundle_format in bundle.formats]
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], atol=1e-5)
