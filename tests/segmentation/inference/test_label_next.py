"""Ranking of unlabelled images and pseudo-labels, on drawn features, votes and probabilities."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.images.fingerprints import thumbnail
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.inference.label_next import Images, near_copies, rank_images
from seg_pipeline.segmentation.inference.sources import find_images
from seg_pipeline.segmentation.inference.unlabelled import (
    confident_pixels,
    describe_images,
    groups_of,
    pseudo_labels,
    spread,
)
from seg_pipeline.segmentation.manifest import table_schemas
from seg_pipeline.segmentation.manifest.table import read_masks, with_pseudo_labels
from seg_pipeline.segmentation.report import selection_page

CPU = torch.device("cpu")


def hexed(number, flips=0):
    """A thumbnail of random bits, and one that differs from it in the first ``flips`` bits."""
    bits = np.random.default_rng(number).integers(0, 2, 256)
    bits[:flips] ^= 1
    return np.packbits(bits).tobytes().hex()


def images(names, positions, disagreement=None, groups=None, thumbnails=None):
    """Images whose features are a position on a line."""
    features = np.array(positions, dtype=np.float32).reshape(len(names), 1)
    thumbnails = thumbnails or [hexed(sum(map(ord, name)) + 7 * len(name)) for name in names]
    unsure = np.zeros(len(names)) if disagreement is None else np.array(disagreement)
    return Images(list(names), list(groups or names), thumbnails, features, unsure)


def order(table):
    return table.loc[table["rank"].notna(), "image_id"].tolist()


def test_distance_alone_takes_the_farthest_from_all_labelled_and_chosen():
    """Labelled at 0: 10 first, then 5, which is 5 from both, then 8 (2 away) before 1 (1 away)."""
    ranked = rank_images(images("abcd", [1, 5, 8, 10]), images("z", [0]), number=4, disagreement_weight=0)
    assert order(ranked) == ["d", "b", "c", "a"]
    np.testing.assert_allclose(ranked["distance"], [1, 0.5, 0.2, 0.1])


def test_disagreement_alone_takes_the_least_certain():
    ranked = rank_images(
        images("abcd", [1, 5, 8, 10], [0.2, 0.4, 0.1, 0.3]), images("z", [0]), number=2, disagreement_weight=1
    )
    assert order(ranked) == ["b", "d"]
    assert ranked["image_id"].tolist() == ["b", "d", "a", "c"]  # the rest by score
    assert ranked["disagreement"].tolist() == [1, 0.75, 0.5, 0.25]


def test_images_come_from_many_groups():
    """With equal distances the score of an image is halved once its group is chosen from."""
    unsure = [0.6, 0.5, 0.4, 0.3]
    ranked = rank_images(
        images("abcd", [1, 1, 1, 1], unsure, groups=["x", "x", "x", "y"]),
        images("z", [0]),
        number=3,
        disagreement_weight=0.5,
    )
    # ranks 1, 0.75, 0.5, 0.25; then b: 0.375 / 2, d: 0.125
    assert order(ranked) == ["a", "b", "d"]


def test_near_copies_are_left_out_and_named():
    twins = [hexed(1), hexed(1, 7), hexed(1, 8), hexed(2, 3)]
    unlabelled = images("abcd", [10, 9, 8, 7], thumbnails=twins)
    ranked = rank_images(unlabelled, images("z", [0], thumbnails=[hexed(2)]), number=4, disagreement_weight=0)
    assert order(ranked) == ["a", "c"]  # 7 bits differ in b, 8 in c
    assert ranked.set_index("image_id")["near_copy_of"].dropna().to_dict() == {"b": "a", "d": "z"}
    reasons = ranked.set_index("image_id")["reason"]
    assert reasons["b"] == "Left out: it looks like a."
    assert reasons["a"] == (
        "Disagreement between the models: percentile 62 of these images. Distance to labelled and chosen images: 100 % "
        "of the largest."
    )
    assert near_copies(twins, [hexed(2)]).tolist() == [False, False, False, True]


def test_without_labelled_images_the_most_unusual_comes_first():
    nothing = Images([], [], [], np.zeros((0, 1), dtype=np.float32), np.zeros(0))
    ranked = rank_images(images("abcd", [0, 1, 1, 9]), nothing, number=2, disagreement_weight=0)
    assert order(ranked) == ["d", "a"]


def test_votes_that_are_equal_do_not_disagree():
    sure, other = np.array([[[1.0, 0.5]]], dtype=np.float32), np.array([[[0.0, 0.5]]], dtype=np.float32)
    assert spread([sure, sure], "multilabel") == 0
    assert spread([sure, other], "multilabel") == pytest.approx(0.5)  # 1 bit in one of two pixels, 0 in the other


@pytest.mark.parametrize(
    ("task", "background", "masks", "sure"),
    [
        ("multilabel", False, [[1, 0, 0, 0], [0, 0, 1, 0]], [1, 0, 1, 0]),
        ("multiclass", True, [[0, 0, 1, 0]], [1, 0, 1, 0]),
    ],
)
def test_confident_pixels(task, background, masks, sure):
    probabilities = np.array([[[0.96, 0.9, 0.02, 0.5]], [[0.04, 0.1, 0.98, 0.03]]], dtype=np.float32)
    found, known = confident_pixels(probabilities, 0.95, task, background=background)
    assert found[:, 0].tolist() == np.array(masks, dtype=bool).tolist()
    assert known[0].tolist() == np.array(sure, dtype=bool).tolist()


@pytest.fixture
def folder(tmp_path, manifest):
    """Two new images, a copy of a labelled one and a file that is no image."""
    rng = np.random.default_rng(3)
    for name in ("x/new", "y/other"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (6, 7), dtype=np.uint8), (48, 40)))
    held_out = manifest[manifest["split"] == "test"].iloc[1]
    cv2.imwrite(str(tmp_path / "y" / "twin.png"), cv2.imread(held_out["path"], cv2.IMREAD_UNCHANGED))
    (tmp_path / "y" / "broken.png").write_bytes(b"no image")
    return tmp_path


def test_images_are_looked_at_with_one_model_or_several(folder, manifest, checkpoint, caplog):
    table, _ = find_images(folder)
    about = {"device": CPU, "temperatures": None, "workers": 0}
    found = describe_images(table, checkpoint, **about)
    assert (found.image_ids, found.groups) == (["x/new", "y/other", "y/twin"], ["x", "y", "y"])
    assert "y/broken is left out" in caplog.text
    assert found.thumbnails[0] == thumbnail(cv2.imread(str(folder / "x" / "new.png"), 0))
    assert found.features.shape[0] == 3
    assert not np.allclose(found.features[0], found.features[1])
    assert (found.disagreement > 0).all()
    twice = describe_images(table, {**checkpoint, "models": checkpoint["models"] * 2}, **about)
    np.testing.assert_allclose(twice.disagreement, 0, atol=1e-6)
    np.testing.assert_array_equal(twice.features, found.features)
    assert groups_of(manifest)[:3] == ["group0", "group0", "group1"]


def test_the_page_shows_the_chosen_images_with_their_reasons(folder):
    table, _ = find_images(folder)
    unlabelled = images(table["image_id"], [1, 2, 3, 4])
    ranked = rank_images(unlabelled, images("z", [0]), number=2, disagreement_weight=0.5)
    page = selection_page(ranked.merge(table[["image_id", "path"]]))
    assert "2 images of 4 to label next, in this order; 0 near-copies of labelled or chosen images left out." in page
    assert page.count("data:image/jpeg") == 1
    assert '<p class="blank">cannot be read</p>' in page  # the second one, y/broken
    assert "1. y/twin" in page
    assert ranked.iloc[0]["reason"] in page


@pytest.mark.parametrize("confidence", [0.5001, 0.999])
def test_pseudo_labels_are_rows_of_the_train_split_with_ignored_pixels(folder, manifest, checkpoint, confidence):
    table, _ = find_images(folder)
    held_out = manifest[manifest["split"] != "train"]
    found = pseudo_labels(
        table, checkpoint, held_out, device=CPU, postprocessing=None, confidence=confidence, workers=0
    )
    if confidence > 0.9:  # an untrained model is sure of nothing
        assert found.empty
        return
    assert found["image_id"].tolist() == [
        "pseudo/x/new",
        "pseudo/y/other",
    ]
    assert found["group"].tolist() == ["pseudo/x", "pseudo/y"]
    assert set(found["split"]) == {"train"}
    assert found["label_source"].iloc[0] == "confident pixels (probability 0.5001) of the model of data d"
    known = manifest[manifest["split"] != "test"].assign(fold=0)
    joined = with_pseudo_labels(known, found)
    table_schemas.MEASURED_IMAGES.validate(joined)
    assert len(joined) == len(known) + 2
    row = joined.iloc[-1].to_dict()
    ignored = decode_rle(row["ignore"], (40, 48), order="C")
    masks = read_masks(row, ["box", "disc"])
    assert set(np.unique(masks[:, ~ignored])) <= {0, 1}
    assert (masks[:, ignored] == 255).all()


def test_pseudo_labels_never_validate_and_yield_to_labels(manifest):
    rows = manifest[manifest["split"] != "test"].assign(fold=0)
    pseudo = rows[:2].assign(image_id=["pseudo/a", "pseudo/b"], split="train", fold=-1, label_source="model")
    pseudo["content_hash"] = ["new", rows["content_hash"].iloc[5]]
    joined = with_pseudo_labels(rows, pseudo)
    assert joined["image_id"].tolist() == [*rows["image_id"], "pseudo/a"]
    with pytest.raises(ValueError, match="must be of the train split and of no fold"):
        with_pseudo_labels(rows, pseudo.assign(split=["train", "val"]))
    with pytest.raises(ValueError, match="combined data set"):
        with_pseudo_labels(rows.assign(source="a"), pseudo)
    with pytest.raises(ValueError, match=r"have the classes \['box'\], the images \['box', 'disc'\]"):
        with_pseudo_labels(rows, pseudo.drop(columns="mask_disc"))
    assert isinstance(joined, pd.DataFrame)
