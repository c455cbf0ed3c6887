import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest import table_schemas
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED
from seg_pipeline.segmentation.metrics.aggregation import SCORES
from seg_pipeline.segmentation.metrics.split_scores import score_predictions, scored_rows
from seg_pipeline.segmentation.objects.label_maps import encode_labels
from seg_pipeline.segmentation.settings.training import MeasureSettings, ScoreSettings

H, W = 20, 30
TRUTHS = {"one": (4, 5, 6, 8), "two": (8, 12, 6, 8), "none": None}
"""Top, left, height and width of the box in each image."""


def box(place, shift=0):
    mask = np.zeros((H, W), dtype=bool)
    if place is not None:
        top, left, height, width = place
        mask[top : top + height, left + shift : left + shift + width] = True
    return mask


def rows_of(masks, **columns):
    """A manifest of one class, "box", of a row an image."""
    return pd.DataFrame(
        {
            "image_id": list(TRUTHS),
            "group": ["a", "b", "b"],
            "series": ["a", "b", "b"],
            "frame": [0, 0, 1],
            "height": H,
            "width": W,
            "split": "test",
            "ignore": "",
            "mask_box": [encode_rle(mask, order="C") for mask in masks],
            **columns,
        }
    )


def truth(**columns):
    return rows_of([box(place) for place in TRUTHS.values()], **columns)


def predicted(masks):
    return rows_of(masks)[["image_id", "height", "width", "mask_box"]].assign(peak_box=0.9)


def scored(rows, predictions, *, aggregation="image", empty_policy="skip", **measures):
    return score_predictions(
        rows,
        predictions,
        scores=ScoreSettings(aggregation=aggregation, empty_policy=empty_policy),
        measures=MeasureSettings(**{"tolerance": 0.5, "boundary_width": 0.03, **measures}),
        seed=0,
    )


def means(found):
    return {score: found.scores[f"mean_{score}"] for score in SCORES}


DIAGONAL = np.hypot(H, W)
# A strip of round(0.03 * 36.06) = 1 pixel. A box of 6 x 8 has 48 pixels, 24 of them on its border.


def test_a_perfect_prediction():
    found = scored(truth(), predicted([box(place) for place in TRUTHS.values()]))
    assert means(found) == {**dict.fromkeys(SCORES, 1), "hd95": 0}
    assert found.scores["pixel_accuracy"] == 1
    assert found.scores["classes"]["box"]["num_images"] == 2
    assert found.confusion.loc["box"].tolist() == [96, 0]


def test_an_empty_prediction():
    found = scored(truth(), predicted([box(None)] * 3))
    assert means(found) == pytest.approx({**dict.fromkeys(SCORES, 0), "hd95": DIAGONAL})
    assert found.scores["pixel_accuracy"] == pytest.approx(1 - 96 / (3 * H * W))
    assert found.confusion.loc["box"].tolist() == [0, 96]


def test_all_foreground():
    """Of 600 pixels 48 are right; the empty image scores 0 in all but recall, for which there is nothing to find."""
    found = scored(truth(), predicted([np.ones((H, W), dtype=bool)] * 3))
    expected = {
        "dice": (2 * 2 * 48 / (48 + 600)) / 3,
        "iou": (2 * 48 / 600) / 3,
        "precision": (2 * 48 / 600) / 3,
        "recall": 1,
        "boundary_iou": 0,  # no box touches the image's edge
        "surface_dice": 0,
    }
    assert {score: value for score, value in means(found).items() if score in expected} == pytest.approx(expected)
    assert found.scores["pixel_accuracy"] == pytest.approx(96 / 1800)
    # The image's edge is further from the boxes than they are from it; the empty image has the diagonal.
    by_image = found.images.set_index("image_id")["hd95"]
    assert by_image["none"] == pytest.approx(DIAGONAL)
    edge = np.argwhere(np.pad(np.zeros((H - 2, W - 2), bool), 1, constant_values=True))
    for name in ("one", "two"):
        top, left, height, width = TRUTHS[name]
        spans = [(0, top, top + height - 1), (1, left, left + width - 1)]
        outside = [np.maximum(np.maximum(low - edge[:, axis], edge[:, axis] - high), 0) for axis, low, high in spans]
        assert by_image[name] == pytest.approx(np.percentile(np.hypot(*outside), 95))


def test_a_prediction_shifted_by_one_pixel():
    """42 of 48 pixels are right; of the 24 on the border 14 lie on the other's (7 above, 7 below) and 10 do not."""
    shifted = predicted([box(place, 1) for place in TRUTHS.values()])
    assert means(scored(truth(), shifted)) == pytest.approx(
        {
            "dice": 84 / 96,
            "iou": 42 / 54,
            "precision": 42 / 48,
            "recall": 42 / 48,
            "boundary_iou": 14 / 34,
            "surface_dice": 28 / 48,
            "hd95": 1,
        }
    )
    assert means(scored(truth(), shifted, tolerance=1))["surface_dice"] == 1


def test_means_over_images_and_over_the_whole_set_are_kept_apart():
    """The first box is found, the second missed, and the empty image has 12 false pixels."""
    guess = predicted([box(TRUTHS["one"]), box(None), box((0, 0, 3, 4))])
    for aggregation, dice in (("image", 1 / 3), ("dataset", 96 / (96 + 12 + 48))):
        found = scored(truth(), guess, aggregation=aggregation).scores
        assert found["mean_dice"] == pytest.approx(dice)
        assert found["by_aggregation"][aggregation]["classes"]["box"]["dice"] == found["classes"]["box"]["dice"]
        assert (found["aggregation"], found["empty_policy"]) == (aggregation, "skip")
    assert scored(truth(), guess, aggregation="dataset").scores["mean_hd95"] == pytest.approx(DIAGONAL * 2 / 3)


def test_intervals_are_of_groups_and_few_are_named(caplog):
    """Group a scores 1, group b 0.5 (one image of two): resamples of two groups give 1, 2/3 or 0.5."""
    found = scored(truth(), predicted([box(TRUTHS["one"]), box(TRUTHS["two"]), box((0, 0, 3, 4))]))
    assert found.scores["mean_dice_interval"] == pytest.approx([0.5, 1])
    assert (found.scores["num_groups"], found.scores["few_groups"]) == (2, True)
    assert "the test split has 2 groups, too few to show how much groups differ" in caplog.text
    assert found.groups.to_dict("records") == [
        {"group": "a", "class": "box", "num_images": 1, "dice": 1, "iou": 1},
        {"group": "b", "class": "box", "num_images": 1, "dice": 0.5, "iou": 0.5},
    ]
    alone = scored(truth(group="a"), predicted([box(place) for place in TRUTHS.values()])).scores
    assert alone["classes"]["box"]["dice_interval"] is None


def test_distances_are_in_mm_where_every_spacing_is_known():
    shifted = predicted([box(place, 1) for place in TRUTHS.values()])
    known = truth(spacing_y=1.0, spacing_x=[2.5, 2.5, 3.5])
    found = scored(known, shifted)
    assert found.scores["distance_unit"] == "mm"
    assert found.images["hd95"].tolist() == pytest.approx([2.5, 2.5, np.nan], nan_ok=True)
    unknown = scored(known.assign(spacing_x=[2.5, np.nan, 2.5]), shifted).scores
    assert (unknown["distance_unit"], unknown["mean_hd95"]) == ("pixels", 1)


def test_a_series_is_scored_as_a_volume():
    """Two frames 4 mm apart: the second's box is found in the first frame, in which there is none."""
    rows = truth(spacing_y=1.0, spacing_x=1.0, group="a", series="s", frame=[1, 0, 2])
    guess = predicted([box(None), box(TRUTHS["two"]), box(None)])
    found = scored(rows, guess, spacing_z=4.0, tolerance=3.0)
    volumes = found.scores["volumes"]
    assert (volumes["num_series"], volumes["num_missing_frames"], volumes["distance_unit"]) == (1, 0, "mm")
    assert volumes["classes"]["box"]["dice"] == pytest.approx(2 * 48 / (96 + 48))
    assert volumes["mean_surface_dice"] == pytest.approx(96 / 144)
    (series,) = found.series.to_dict("records")
    assert (series["num_missing"], series["volume_dice"]) == (0, pytest.approx(2 / 3))
    assert series["hd95"] > 4
    competition = scored(rows, guess, spacing_z=4.0, competition=True).scores["competition"]
    assert list(competition) == ["text", "host_comment", "organiser_note", "mle_bench"]


def test_a_structure_in_one_frame_of_a_series_is_scored_as_a_volume():
    """All 48 pixels of a box one frame thick are surface; moved by one column, 42 of them lie on the other's 48."""
    rows = rows_of([box(TRUTHS["one"]), box(None), box(None)], spacing_y=1.0, spacing_x=1.0, group="a", series="s")
    guess = predicted([box(TRUTHS["one"], shift=1), box(None), box(None)])
    found = scored(rows.assign(frame=[0, 1, 2]), guess, spacing_z=4.0, tolerance=0.0)
    assert found.scores["volumes"]["mean_surface_dice"] == pytest.approx(84 / 96)


@pytest.mark.parametrize(
    ("why", "changed"),
    [
        ("frames have no known distance", {}),
        ("a frame is there twice", {"spacing_z": 4.0, "frame": [0, 1, 1]}),
        ("most frames are missing", {"spacing_z": 4.0, "frame": [0, 1, 9]}),
        ("spacing differs", {"spacing_z": 4.0, "spacing_x": [1.0, 1.0, 2.0]}),
        ("each image is a series", {"spacing_z": 4.0, "series": ["x", "y", "z"]}),
    ],
)
def test_series_that_are_no_volume_have_no_volume_scores(why, changed):
    columns = {"spacing_y": 1.0, "spacing_x": 1.0, "series": "s", "frame": [0, 1, 2], **changed}
    found = scored(truth(**columns), predicted([box(place) for place in TRUTHS.values()]), competition=True)
    assert found.scores["volumes"] is None, why
    assert found.scores["competition"] is None
    assert found.series["volume_dice"].isna().all()
    table_schemas.SERIES_SCORES.validate(found.series)


def test_a_missing_frame_shows_nothing():
    rows = truth(spacing_y=1.0, spacing_x=1.0, group="a", series="s", frame=[0, 1, 3])
    found = scored(rows, predicted([box(place) for place in TRUTHS.values()]), spacing_z=4.0)
    assert found.scores["volumes"]["num_missing_frames"] == 1
    assert found.scores["volumes"]["mean_hd95"] == 0


def test_what_is_not_known_counts_nowhere():
    """Beside the box everything is unknown, so that too much there costs nothing."""
    ignore = encode_rle(~box(TRUTHS["one"]), order="C")
    rows = truth(ignore=[ignore, "", ""])
    guess = predicted([np.ones((H, W), dtype=bool), box(TRUTHS["two"]), box(None)])
    assert means(scored(rows, guess)) == {**dict.fromkeys(SCORES, 1), "hd95": 0}


def test_a_class_that_nobody_shows_has_no_score(manifest):
    rows = manifest[manifest["split"] == "test"].assign(mask_box="", area_box=0, peak_box=0.1, peak_disc=0.9)
    found = scored(rows, rows)
    assert {found.scores["classes"]["box"][score] for score in SCORES} == {None}
    assert found.scores["classes"]["box"]["num_images"] == 0
    assert found.scores["mean_dice"] == 1
    assert found.images.loc[found.images["class"] == "box", "dice"].isna().all()


def test_tables_are_as_declared():
    found = scored(truth(), predicted([box(TRUTHS["one"]), box(None), box((0, 0, 3, 4))]))
    table_schemas.IMAGE_SCORES.validate(found.images)
    table_schemas.GROUP_SCORES.validate(found.groups)
    table_schemas.SERIES_SCORES.validate(found.series)
    assert found.images[["truth_area", "predicted_area", "peak"]].values.tolist() == [
        [48, 48, 0.9],
        [48, 0, 0.9],
        [0, 12, 0.9],
    ]


def test_predictions_of_other_images_or_classes_are_refused(manifest):
    rows = manifest.head(2)
    with pytest.raises(ValueError, match=r"2 images are only in the predictions, .* \(new, scan01\); predict again"):
        scored(rows, rows.assign(image_id=["scan00", "new"]))
    with pytest.raises(ValueError, match=r"1 images are only in the predictions, .* \(scan01\); predict again"):
        scored(rows, rows.head(1))  # a missed image cannot raise a mean
    with pytest.raises(ValueError, match=r"the classes \['box'\], the manifest has \['box', 'disc'\]"):
        scored(rows, rows.drop(columns="mask_disc"))


def partial(*, not_annotated):
    """Two sources; "box" is not annotated in the images of one of them."""
    rows = truth(source=["a", "b", "b"])
    return rows.assign(mask_box=rows["mask_box"].where(rows["source"] != not_annotated, NOT_ANNOTATED))


def test_each_source_has_its_scores():
    half = predicted([box(TRUTHS["one"]), box(TRUTHS["two"], shift=4), box(None)])  # 6 x 4 of 6 x 8 pixels agree
    scores = scored(truth(source=["a", "b", "b"]), half).scores
    assert {name: one["mean_dice"] for name, one in scores["by_source"].items()} == {"a": 1.0, "b": 0.5}
    assert scores["mean_dice"] == 0.75
    assert "by_source" not in scored(truth(), half).scores


def test_a_prediction_of_a_class_that_the_source_does_not_annotate_counts_nowhere():
    wild = predicted([box(TRUTHS["one"]), box(TRUTHS["two"], shift=4), box(TRUTHS["one"])])
    scores = scored(partial(not_annotated="b"), wild).scores
    assert scores["mean_dice"] == scores["by_source"]["a"]["mean_dice"] == 1.0
    assert scores["by_source"]["b"]["mean_dice"] is None
    assert scored(partial(not_annotated="b"), wild, aggregation="dataset").scores["mean_dice"] == 1.0


def test_a_series_that_is_not_annotated_is_no_volume_with_a_score():
    rows = partial(not_annotated="b").assign(spacing_y=1.0, spacing_x=1.0, series=["a", "b", "b"], frame=[0, 0, 1])
    found = scored(rows, predicted([box(place) for place in TRUTHS.values()]), spacing_z=2.0)
    assert found.series.set_index("series").loc["b", ["volume_dice", "hd95"]].isna().all()


def test_an_absent_class_and_one_that_is_not_annotated_must_not_score_alike():
    message = "box is not annotated in 2 of 3 images, which `scores.empty_policy: one` would score as if it were absent"
    with pytest.raises(ValueError, match=message):
        scored(partial(not_annotated="b"), predicted([box(None)] * 3), empty_policy="one")


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_no_score(workers):
    """Overlapping classes, ignored pixels, volumes and the competition's score: equal to those of no thread."""
    rng, names = np.random.default_rng(2), ["image_id", "height", "width", "mask_box", "mask_top"]
    masks = rng.random((2, 12, H, W)) > 0.6
    rows = pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(12)],
            **{name: np.arange(12) // 3 for name in ("group", "series")},
            "frame": np.arange(12) % 3,
            "height": H,
            "width": W,
            "spacing_y": 0.8,
            "spacing_x": 1.1,
            "split": "test",
            "ignore": [encode_rle(rng.random((H, W)) > 0.95, order="C") for _ in range(12)],
            "mask_box": [encode_rle(mask, order="C") for mask in masks[0]],
            "mask_top": [encode_rle(mask, order="C") for mask in masks[1]],
        }
    ).astype({"group": str, "series": str})
    guesses = rows[names].assign(mask_box=rows["mask_box"].to_numpy()[::-1], peak_box=0.9, peak_top=0.8)
    settings = {"scores": ScoreSettings(), "measures": MeasureSettings(spacing_z=2.0, competition=True), "seed": 0}
    plain, found = (score_predictions(rows, guesses, workers=number, **settings) for number in (0, workers))
    assert found.scores == plain.scores
    assert found.scores["volumes"]["num_series"] == 4
    for one, other in zip(found[1:], plain[1:], strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize(("splits", "expected"), [("train val test", "test"), ("train val val", "val")])
def test_without_a_test_split_the_validation_split_is_scored_and_named(splits, expected, caplog):
    rows = truth(split=splits.split())
    found = scored_rows(rows)
    assert set(found["split"]) == {expected}
    assert ("the test split is empty, so the validation split is scored, too well" in caplog.text) == (
        expected == "val"
    )
    guess = predicted([box(place) for place in TRUTHS.values()]).iloc[found.index]
    assert scored(found, guess).scores["split"] == expected
    with pytest.raises(ValueError, match="no image to score: the test and the validation split are empty"):
        scored_rows(rows.assign(split="train"))


def halves(place):
    """Label map of two touching objects that make up a box."""
    labels = box(place).astype(np.int32)
    if place is not None:
        labels[:, place[1] + place[3] // 2 :] *= 2
    return encode_labels(labels)


def test_objects_are_scored_where_the_ground_truth_has_them():
    """Two touching objects in each of two images, of which masks alone make one."""
    objects = [halves(place) for place in TRUTHS.values()]
    rows = truth(object_map_box=objects)
    merged = predicted([box(place) for place in TRUTHS.values()])
    found = scored(rows, merged)
    of_box = found.scores["classes"]["box"]["objects"]
    assert (of_box["num_true"], of_box["num_predicted"], of_box["f1_50"], of_box["count_bias"]) == (4, 2, 0, -2 / 3)
    parted = scored(rows, merged.assign(object_map_box=objects))
    assert parted.scores["objects"]["mean_f1_50"] == 1
    assert parted.scores["by_aggregation"]["dataset"]["classes"]["box"]["objects"]["ap_50_95"] == 1
    table_schemas.IMAGE_SCORES.validate(parted.images)
    assert parted.images["matched_objects"].tolist() == [2, 2, 0]
    assert found.images["panoptic_quality"].fillna(-1).tolist() == [0, 0, -1]


def test_objects_in_ignored_pixels_and_of_classes_that_are_not_annotated_count_nowhere():
    objects = [halves(place) for place in TRUTHS.values()]
    wrong = predicted([box(place) for place in TRUTHS.values()])
    everywhere = encode_rle(np.ones((H, W), dtype=bool), order="C")
    masks = truth()["mask_box"].tolist()
    rows = truth(object_map_box=[*objects[:1], "", ""], ignore=[everywhere, "", ""])
    rows["mask_box"] = [masks[0], NOT_ANNOTATED, masks[2]]
    of_box = scored(rows, wrong).scores["classes"]["box"]["objects"]
    assert (of_box["num_true"], of_box["num_predicted"], of_box["f1_50"], of_box["count_error"]) == (0, 0, None, 0)


def test_masks_have_no_scores_by_object():
    found = scored(truth(), predicted([box(place) for place in TRUTHS.values()]))
    assert "objects" not in found.scores
    assert "objects" not in found.scores["classes"]["box"]
    assert "true_objects" not in found.images
