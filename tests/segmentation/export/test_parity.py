import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from seg_pipeline.segmentation.export import compare_formats, refuse_differences
from seg_pipeline.segmentation.export.validation import mean_dice, scaled_copies, validation_rows
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.manifest.table import read_masks, spread
from seg_pipeline.segmentation.prediction.bundle import Bundle, describe_file
from seg_pipeline.segmentation.settings.training import ParitySettings, ScoreSettings, SourceInput
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

pytestmark = pytest.mark.slow

SCORES = ScoreSettings(aggregation="dataset")


def test_every_form_gives_what_the_trained_model_gives(bundle_folder, checkpoint, manifest):
    """Images of 40 x 48, of 24 x 29 and of 68 x 82, in batches of 1 and 3. From file to mask."""
    settings = ParitySettings(images=3)
    parity = compare_formats(Bundle.read(bundle_folder), checkpoint, manifest, settings, SCORES)
    assert len(parity) == 4 * 3 * 2
    assert set(parity["sizes"]) == {"40 x 48", "24 x 29", "68 x 82"}
    assert parity["logit_difference"].max() <= 1e-4
    assert (parity["pixel_share"] == 0).all()
    assert (parity["dice_trained"] == parity["dice_exported"]).all()
    assert parity["ok"].all()
    refuse_differences(parity)


def test_images_of_a_source_are_compared_with_its_normalisation(bundle_folder, checkpoint, manifest):
    by_source = {"b": SourceInput(normalisation="fixed", window=(0, 90))}
    trained = TrainingConfig.from_dict(checkpoint["models"][0]["config"])
    config = trained.changed({"input": replace(trained.input, by_source=by_source)}).to_dict()
    bundle = Bundle.read(bundle_folder)
    networks = tuple(replace(one, input=replace(one.input, by_source=by_source)) for one in bundle.networks)
    found = {**checkpoint, "models": [{**one, "config": config} for one in checkpoint["models"]]}
    rows = manifest.head(4).assign(source=["a", "b", "b", "a"])
    settings = ParitySettings(images=4, scales=(1,), batch_sizes=(3,))
    parity = compare_formats(replace(bundle, networks=networks), found, rows, settings, SCORES)
    assert parity["ok"].all()
    assert (parity["pixel_share"] == 0).all()


def test_other_weights_are_refused(bundle_folder, checkpoint, manifest, tmp_path):
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")
    weights = load_file(folder / "model.safetensors")
    weights["net.segmentation_head.0.bias"] += 0.01
    save_file(weights, folder / "model.safetensors")
    found = Bundle.read(bundle_folder).to_dict()
    files = found["networks"][0]["files"]
    found["networks"][0]["files"] = {"safetensors": describe_file(folder / "model.safetensors")._asdict()}
    assert files["safetensors"] != found["networks"][0]["files"]["safetensors"]
    parity = compare_formats(
        Bundle.from_dict(found, folder),
        checkpoint,
        manifest,
        ParitySettings(images=1, scales=(1,), batch_sizes=(1,)),
        SCORES,
    )
    assert parity["logit_difference"].tolist() == pytest.approx([0.01], abs=1e-4)
    text = "1 of 1 comparisons with the trained model exceed the limits, for the formats safetensors; the worst, "
    with pytest.raises(
        ValueError, match=re.escape(text + "safetensors at 40 x 48 in batches of 1: logits differ by 0.01")
    ):
        refuse_differences(parity)


@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_a_scaled_copy_has_masks_of_its_size(mixed, tmp_path, scale):
    """Colour stays in order, 16 bits stay 16, what is not known stays so."""
    copies = scaled_copies(mixed, scale, tmp_path)
    for row, original in zip(copies.to_dict("records"), mixed.to_dict("records"), strict=True):
        image, source = read_image(row["path"]), read_image(original["path"])
        assert image.shape[:2] == (row["height"], row["width"]) == tuple(round(s * scale) for s in source.shape[:2])
        assert image.dtype == source.dtype
        np.testing.assert_allclose(image.mean((0, 1)), source.mean((0, 1)), rtol=0.05)
        masks = read_masks(row, ["left", "top"])
        assert masks.shape[1:] == image.shape[:2]
        assert (masks[0, -1] == 255).all() == (original["ignore"] != "")


def test_dice_by_hand(manifest):
    """All of both classes found, then of the first class none: Dice 1 and (0 + 1) / 2."""
    rows = manifest[manifest["area_box"] > 0].head(3)
    truth = [read_masks(row, ["box", "disc"]) == 1 for row in rows.to_dict("records")]
    assert mean_dice(truth, rows, SCORES) == 1
    without = [np.stack([np.zeros_like(one[0]), one[1]]) for one in truth]
    assert mean_dice(without, rows, SCORES) == 0.5


def test_images_to_validate_on():
    rows = pd.DataFrame({"split": ["train", "train", "val", "val", "val", "val"], "number": range(6)})
    assert validation_rows(rows)["number"].tolist() == [2, 3, 4, 5]
    assert validation_rows(rows[:2])["number"].tolist() == [0, 1]
    assert spread(rows, 3)["number"].tolist() == [0, 2, 5]
    assert spread(rows, 9)["number"].tolist() == [0, 1, 2, 3, 4, 5]
