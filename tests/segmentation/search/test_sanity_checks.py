"""The sanity checks on sound and on broken data: what each detects, and what none can detect."""

import math

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.images.masks import decode_rle, encode_rle
from seg_pipeline.segmentation.search import run_sanity_checks, stop_on_failed_checks
from seg_pipeline.segmentation.search.initial_loss import initial_loss, initial_terms
from seg_pipeline.segmentation.search.overfit_check import permutation_p
from seg_pipeline.segmentation.settings.search import SanityCheckSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings

pytestmark = pytest.mark.slow

COMPUTE = ComputeSettings(device="cpu", num_workers=0, cache="ram")
MASKS = ["mask_box", "mask_disc"]
LN2 = math.log(2)


@pytest.fixture(scope="module")
def easy(config):
    """Reaches Dice 0.95 on four images in some 60 steps."""
    return config.changed({"optimizer.learning_rate": 5e-3})


@pytest.fixture(scope="module")
def sound(scans, easy):
    return run_sanity_checks(scans, easy, COMPUTE)


def shuffled(scans):
    """Masks of other images: a random order of them within each split."""
    broken = scans.copy()
    order = np.random.default_rng(3).permutation(len(scans))
    columns = [*MASKS, "area_box", "area_disc"]
    broken[columns] = scans[columns].to_numpy()[order]
    return broken


def inverted(scans):
    def turned(row, name):
        shape = (row["height"], row["width"])
        return encode_rle(~decode_rle(row[name], shape, order="C"), order="C")

    masks = {name: [turned(row, name) for row in scans.to_dict("records")] for name in MASKS}
    areas = {f"area_{name[5:]}": scans["height"] * scans["width"] - scans[f"area_{name[5:]}"] for name in MASKS}
    return scans.assign(**masks, **areas)


def test_a_correct_data_set_passes(sound):
    report = sound.report
    assert report["passed"]
    assert report["initial_loss"]["causes"] == report["overfit"]["causes"] == []
    assert report["overfit"]["dice"] >= 0.95
    assert report["overfit"]["curve"][-1]["step"] == report["overfit"]["steps"] <= 160
    assert report["overfit"]["pairing"] <= 0.01
    assert stop_on_failed_checks(report, stop=True)


def test_shuffled_masks_can_be_overfitted_but_do_not_generalise(scans, easy):
    report = run_sanity_checks(shuffled(scans), easy, COMPUTE, SanityCheckSettings()).report
    assert report["initial_loss"]["passed"]
    assert report["overfit"]["dice"] >= 0.95  # memory alone
    assert report["overfit"]["pairing"] > 0.01
    with pytest.raises(ValueError, match=r"on 1\d other images fit their own masks no better than shuffled masks"):
        stop_on_failed_checks(report, stop=True)


def test_inverted_masks_are_suspected_from_the_area_they_cover(scans, easy):
    first = initial_loss(inverted(scans), easy, torch.device("cpu"), SanityCheckSettings())
    assert not first["passed"]
    assert [one["covered"] > 0.8 and one["border"] > 0.95 for one in first["classes"]] == [True, True]
    assert first["causes"][0].startswith("box covers 9")
    assert (
        "are its masks inverted? If they are right, set `hparam_search.sanity_checks.most_covered: 1`"
        in first["causes"][0]
    )
    assert initial_loss(inverted(scans), easy, torch.device("cpu"), SanityCheckSettings(most_covered=1))["passed"]


def test_constant_images_are_reported_before_training(scans, easy, tmp_path):
    paths = []
    for number, row in enumerate(scans.to_dict("records")):
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], np.full((row["height"], row["width"]), 90, dtype=np.uint8))
    first = initial_loss(scans.assign(path=paths), easy, torch.device("cpu"), SanityCheckSettings())
    assert first["input"]["constant"] == first["num_images"] == 16
    assert first["causes"][0].startswith("16 of 16 images are constant after normalisation: are the files empty")


def test_empty_masks_are_reported(scans, easy):
    nothing = scans.assign(**dict.fromkeys(MASKS, ""), area_box=0, area_disc=0)
    first = initial_loss(nothing, easy, torch.device("cpu"), SanityCheckSettings())
    assert any("no image has a mask of any class" in cause for cause in first["causes"])


def test_too_few_steps_fail_with_likely_causes_and_a_figure(scans, easy):
    found = run_sanity_checks(scans, easy, COMPUTE, SanityCheckSettings(overfit_steps=10))
    overfit = found.report["overfit"]
    assert overfit["causes"][0].startswith("Dice 0.")
    assert "after 10 steps on 4 images, expected 0.95. Likely: a learning rate" in overfit["causes"][0]
    assert (overfit["pairing"], overfit["pairing_note"]) == (None, "the images were not overfitted")
    assert len(overfit["causes"]) == 1
    assert len(found.sheet.axes) == 12
    assert not stop_on_failed_checks(found.report, stop=False)


def test_divergence_is_reported_as_a_cause(scans, easy, caplog):
    wild = easy.changed({"optimizer.learning_rate": 1e30, "optimizer.clip_norm": None})
    found = run_sanity_checks(scans, wild, COMPUTE, SanityCheckSettings())
    assert found.report["overfit"]["causes"][0].startswith("training failed: ")
    assert not stop_on_failed_checks(found.report, stop=False)
    assert "the search continues because hparam_search.sanity_checks.stop is false" in caplog.text


@pytest.mark.parametrize(
    ("task", "terms", "expected"),
    [
        ("multilabel", {"bce": 1.0}, LN2),
        ("multilabel", {"focal": 1.0}, LN2 / 4),
        ("multilabel", {"lovasz": 1.0}, 1.0),
        ("multilabel", {"dice": 1.0}, 1 - (2 * 3 * 0.5 + 1) / (12 * 0.5 + 3 + 1)),  # 3 of 12 pixels, smoothing 0.5
        ("multiclass", {"ce": 1.0}, math.log(3)),
        ("multiclass", {"focal": 1.0}, (2 / 3) ** 2 * math.log(3)),
    ],
)
def test_the_expected_loss_of_each_term(config, task, terms, expected):
    one = config.changed({"task": task, "background": task == "multiclass", "loss.terms": terms})
    if task == "multilabel":
        truth = torch.zeros(1, 2, 3, 4, dtype=torch.uint8)
        truth[:, :, 0, :3] = 1
    else:
        truth = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4) % 3
    logits = torch.zeros(1, one.num_channels, 3, 4)
    (row,) = initial_terms(logits, truth, one, tolerance=0.1)
    assert row["expected"] == row["found"] == pytest.approx(expected, abs=1e-6)
    assert row["passed"]
    # With other seeds, Dice may be right by chance.
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    (far,) = initial_terms(logits + 30 * noise, truth, one, tolerance=0.1)
    assert not far["passed"]


def test_an_activation_before_the_loss_is_reported(config, scans, monkeypatch):
    from seg_pipeline.segmentation.models import segmenter

    plain = segmenter.Segmenter.forward
    monkeypatch.setattr(segmenter.Segmenter, "forward", lambda self, images: plain(self, images).mul(40).sigmoid())
    first = initial_loss(scans, config, torch.device("cpu"), SanityCheckSettings(tolerance=0.05))
    assert "the network ends in an activation (its output is within 0 to 1)" in first["causes"][0]


def test_permutation_p_by_hand():
    fits = np.diag([5.0, 5.0, 5.0, 5.0])  # of 24 orders, only the true one has all four
    assert permutation_p(fits, seed=1) == pytest.approx(1 / 24, abs=0.02)
    assert permutation_p(np.ones((6, 6)), seed=1) == 1.0
    assert permutation_p(-np.eye(9), seed=1) > 0.9


def test_without_enough_images_or_success_the_pairing_is_not_tested(sound, scans, easy):
    settings = SanityCheckSettings(overfit_steps=20, overfit_dice=0.01)
    few = run_sanity_checks(scans.iloc[:9].assign(split=["train"] * 7 + ["val"] * 2), easy, COMPUTE, settings).report
    assert few["overfit"]["pairing"] is None
    assert few["overfit"]["pairing_note"] == "it needs 8 unseen images with a class, found 2"
    assert few["passed"]


def test_the_curve_of_a_failed_training_may_be_empty():
    from seg_pipeline.segmentation import plotting

    assert plotting.plot_overfit(pd.DataFrame([]), required=0.9).get_suptitle().endswith("after 0 steps")
