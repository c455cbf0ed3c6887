"""Data that trips one rule at a time."""

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.new_data.checking import some_images
from seg_pipeline.new_data.fitting import Facts, alike, fitted, look, merged
from seg_pipeline.new_data.layouts.run_lengths import _first
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.objects.label_maps import encode_labels

PLAIN = Facts({"left to right": 0.0, "top to bottom": 0.0, "by a quarter": 0.0}, 400.0, 200, 200, 12, False)
WHOLE = {"input": {"size": [192, 192], "resize_mode": "resize"}}


def drawn(folder, draw, *, groups=8, side=64):
    """Manifest of one image per group; ``draw`` gets a mask and the group's number."""
    rows = []
    for group in range(groups):
        mask = np.zeros((side, side), np.uint8)
        draw(mask, group)
        path = folder / f"{group}.png"
        noise = np.random.default_rng(group).integers(0, 30, mask.shape, dtype=np.uint8)
        cv2.imwrite(str(path), 40 + noise + 150 * mask)
        rows.append({"image_id": str(group), "path": str(path), "group": str(group), "height": side, "width": side,
                     "channels": 1, "mask_blob": encode_rle(mask.astype(bool), order="C"), "area_blob": int(mask.sum()),
                     "ignore": ""})  # fmt: skip
    return pd.DataFrame(rows)


def anywhere(mask, group):
    for x, y in np.random.default_rng(group).integers(4, 60, (6, 2)).tolist():
        cv2.circle(mask, (x, y), 3, 1, -1)


def below(mask, group):
    """Near the lower border, on both sides alike."""
    for x, y in np.random.default_rng(group).integers((4, 50), (60, 60), (6, 2)).tolist():
        cv2.circle(mask, (x, y), 3, 1, -1)


def to_the_right(mask, group):
    x, y = np.random.default_rng(group).integers((44, 10), (56, 54)).tolist()
    cv2.circle(mask, (x, y), 5, 1, -1)


def chosen(facts, classes=("blob",), number=5000, training=WHOLE):
    changes = {}
    for change, reason in fitted(training, facts, list(classes), number):
        changes = merged(changes, change)
        assert reason
    return changes


@pytest.mark.parametrize(
    ("draw", "preset"),
    [
        pytest.param(anywhere, "microscopy", id="anywhere"),
        pytest.param(below, "street", id="below"),
        pytest.param(to_the_right, "medical", id="to the right"),
    ],
)
def test_augmentation_follows_where_the_classes_lie(tmp_path, draw, preset):
    assert chosen(look(drawn(tmp_path, draw)))["training"]["sampling"] == {"augmentation": preset}


@pytest.mark.parametrize(
    ("facts", "classes", "preset", "reason"),
    [
        (PLAIN, ("left kidney", "liver"), "medical", "because of the class left kidney"),
        (PLAIN, ("cell", "leftover"), "microscopy", "no common direction"),
        (PLAIN._replace(differences={}), ("cell",), "medical", "a single group does not tell"),
        (PLAIN._replace(groups=3), ("a", "b"), "medical", "3 groups do not tell"),
        (PLAIN._replace(groups=3, colour=True), ("a", "b"), "street", "no turns"),
        (PLAIN._replace(groups=3), ("cell",), "microscopy", "no common direction"),
    ],
)
def test_augmentation_by_classes_and_groups(facts, classes, preset, reason):
    change, why = next(iter(fitted(WHOLE, facts, list(classes), 5000)))
    assert change == {"training": {"sampling": {"augmentation": preset}}}
    assert reason in why


@pytest.mark.parametrize(("preset", "tta"), [("medical", None), ("street", "horizontal"), ("microscopy", "flips")])
def test_predictions_are_mirrored_as_training_mirrors(preset, tta):
    colour = PLAIN._replace(colour=True)
    facts = {"medical": PLAIN._replace(differences={}), "street": colour._replace(groups=3), "microscopy": PLAIN}[
        preset
    ]
    changes = chosen(facts, ("a", "b"))
    assert changes["training"]["sampling"] == {"augmentation": preset}
    assert changes.get("prediction", {"tta": None}) == {"tta": tta}


def test_cosine_of_the_groups_differences():
    assert alike(np.array([[1.0, 0.0], [0.0, 2.0]])) == 0
    assert alike(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])) == 1
    assert alike(np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 0.0]])) == pytest.approx((0 + 2 * 0.5**0.5) / 3)
    assert alike(np.zeros((3, 2))) == 0


def test_small_objects_keep_their_pixels(tmp_path):
    def dots(mask, group):
        mask[10:13, 10:13] = 1  # 9 pixels
        mask[30, 30] = 1  # a speck
        if group == 0:
            mask[40:60, 40:60] = 1

    facts = look(drawn(tmp_path, dots))
    assert facts.smallest_object == 9
    assert (facts.height, facts.width, facts.groups, facts.colour) == (64, 64, 8, False)
    windows = {"input": {"size": [256, 256], "resize_mode": "crop", "scale": 0.25, "zoom": 1.5}}
    large = facts._replace(height=2048, width=2048)
    assert chosen(large, training=windows)["training"]["input"] == {
        "size": [256, 256], "resize_mode": "crop", "scale": 1.0, "zoom": 1.5
    }  # fmt: skip
    assert chosen(large._replace(smallest_object=100), training=windows)["training"]["input"]["scale"] == 0.5
    assert "input" not in chosen(large._replace(smallest_object=400), training=windows)["training"]
    assert "input" not in chosen(large._replace(smallest_object=None), training=windows)["training"]


def test_small_objects_are_measured_one_by_one(tmp_path):
    labels = np.zeros((64, 64), dtype=int)
    labels[10:20, 10:20], labels[10:20, 20:30] = 1, 2  # touching: one connected part of 200 pixels
    rows = drawn(tmp_path, lambda mask, _: np.copyto(mask, labels > 0, casting="unsafe"))
    assert look(rows).smallest_object == 200
    assert look(rows.assign(object_map_blob=encode_labels(labels))).smallest_object == 100


def test_images_of_one_folder_do_not_show_where_classes_lie_as_if_unrelated(tmp_path):
    """Frames of a film are alike; without groups, its folder is one."""
    rows = pd.concat(
        [drawn(tmp_path / film, to_the_right, groups=4).assign(image_id=lambda t, film=film: f"{film}/" + t["image_id"])
         for film in ("a", "b", "c") if (tmp_path / film).mkdir() is None], ignore_index=True
    )  # fmt: skip
    rows["group"] = rows["image_id"]
    assert look(rows).groups == 3
    assert look(rows[rows["image_id"].str[0] < "c"]).groups == 8  # two folders may be splits
    assert look(rows.assign(group=list("aaaabbbbcccc"), image_id="x/y")).groups == 3
    assert look(rows.assign(image_id=rows["group"].str.replace("/", "_"))).groups == 12


def test_images_that_would_shrink_too_much_are_cut_into_windows():
    facts = PLAIN._replace(smallest_object=25, height=300, width=300)
    assert chosen(facts)["training"]["input"] == {"size": [256, 256], "resize_mode": "crop", "scale": 1.0, "zoom": 1.5}
    assert "input" not in chosen(facts._replace(smallest_object=80))["training"]


def test_slices_of_volumes_get_an_input_of_their_size():
    training = {"input": {"resize_mode": "pad"}}
    facts = PLAIN._replace(height=250, width=216, smallest_object=None)
    assert chosen(facts, training=training)["training"]["input"] == {"size": [256, 224]}
    large = facts._replace(height=512, width=400)
    assert chosen(large, training=training)["training"]["input"] == {"size": [256, 224]}
    small = large._replace(smallest_object=30)  # 7.5 pixels at 256 x 200
    windows = {"size": [256, 256], "resize_mode": "crop", "scale": 0.91, "zoom": 1.5}
    assert chosen(small, training=training)["training"]["input"] == windows


@pytest.mark.parametrize(
    ("number", "size", "fit"),
    [
        (10, [256, 256], {"epochs": 300, "validate_every": 12}),  # 4e8 / (7 * 65536) = 872
        (100, [256, 256], {"epochs": 87, "validate_every": 3}),  # 4e8 / (70 * 65536) = 87.2
        (200, [256, 256], {"epochs": 44}),
        (400, [256, 256], None),  # 22, fewer than the default
        (400, [128, 128], {"epochs": 87, "validate_every": 3}),
        (0, [128, 128], None),
    ],
)
def test_few_images_are_shown_more_often(number, size, fit):
    training = {"input": {"size": size, "resize_mode": "pad"}}
    assert chosen(PLAIN, number=number, training=training)["training"].get("fit") == fit


def test_few_large_images_are_shown_until_their_windows_are_seen():
    """An epoch takes one window of each image."""
    training = {"input": {"size": [256, 256], "resize_mode": "crop", "scale": 0.4, "zoom": 1.5}}
    slides = PLAIN._replace(height=2560, width=3200)  # 20 windows at this scale
    for height, epochs in ((2560, 3052), (640, 1500), (100, 300)):  # 4e8 / (2 * 65536); 300 times 5 windows; 300
        fit = chosen(slides._replace(height=height), number=3, training=training)["training"]["fit"]
        assert fit == {"epochs": epochs, "validate_every": epochs // 25}


def numbered(mask, order, first):
    numbers = np.array(encode_rle(mask, order=order).split(), dtype=int)
    numbers[::2] += first - 1
    return " ".join(map(str, numbers))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("order", ["C", "F"])
def test_runs_cut_off_at_a_border_show_where_they_count_from(order, first):
    shape = (20, 30)
    masks = np.zeros((3, *shape), bool)
    masks[0, 14:, 5:12] = masks[1, 3:9, 24:] = masks[2, :4, 8:15] = True  # cut off below, on the right, above
    masks[2, 10:16, :5] = True  # and on the left
    texts = [numbered(mask, order, first) for mask in masks]
    assert _first([(None, shape, "a", text) for text in texts])[0] == first
    inside = np.zeros(shape, bool)
    inside[4:9, 6:11] = True
    assert _first([(None, shape, "a", numbered(inside, order, first))])[0] is None


def test_the_trial_takes_images_from_the_whole_list():
    names = [f"{breed}_{number}" for breed in "abcd" for number in range(20)]
    files = pd.DataFrame({"image_id": names})
    assert {name[0] for name in some_images(files, set(names))} == {*"abcd"}
    assert len(some_images(files, set(names))) == 20
    grouped = files.assign(group=["small"] * 2 + [f"g{number // 6}" for number in range(78)])
    assert {"a_0", "a_1"} < some_images(grouped, set(names))
    assert some_images(files, set()) == set()
