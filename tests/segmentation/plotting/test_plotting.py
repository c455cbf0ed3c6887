import copy
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.settings.figures import CURRENT

THREE = ["large_bowel", "small_bowel", "stomach"]
CAMVID = Path(__file__).parents[3] / "conf" / "camvid" / "parameters.yml"
ELEVEN = [one["name"] for one in yaml.safe_load(CAMVID.read_text())["dataset"]["classes"]]
ORANGE, SKY_BLUE, GREEN = (230, 159, 0), (86, 180, 233), (0, 158, 115)


def saved(figure: Figure) -> np.ndarray:
    """The figure as it is saved, after a check that nothing sticks out of it."""
    assert type(figure) is Figure  # not pyplot's
    with io.BytesIO() as file:
        figure.savefig(file)
        picture = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02
    assert box.x1 <= width + 0.02
    assert box.y1 <= height + 0.02
    np.testing.assert_allclose(picture.shape[:2], (height * 192, width * 192), atol=1)
    return picture


def tick_texts(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def assert_inside(axes) -> None:
    """The texts in the axes stay in them."""
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.x1 <= axes.bbox.x1
        assert box.y1 <= axes.bbox.y1


def assert_apart(texts) -> None:
    """No two of the texts overlap on the page."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


# colours


def test_the_first_colours_are_pinned():
    assert plotting.class_colours(3).tolist() == [list(ORANGE), list(SKY_BLUE), list(GREEN)]
    assert plotting.class_colours(8)[7].tolist() == [0x00, 0x33, 0xCC]


def test_colours_differ_and_belong_to_the_index():
    colours = plotting.class_colours(48)
    assert colours.dtype == np.uint8
    assert len(np.unique(colours, axis=0)) == 48
    np.testing.assert_array_equal(plotting.class_colours(5), colours[:5])
    np.testing.assert_array_equal(plotting.class_colours(50)[48:], colours[:2])
    assert plotting.class_colours(0).shape == (0, 3)


def test_the_first_eleven_colours_stay_apart_without_green_receptors():
    # Machado et al. 2009, deuteranopia, on linear RGB; 15 in CIELAB is far more than the eye needs
    model = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    colours = plotting.class_colours(11) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ model.T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * np.maximum(seen, 1e-9) ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(seen[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert apart[np.triu_indices(11, 1)].min() > 15


# overlay


def test_overlay_by_hand():
    image = np.full((5, 4), 100, dtype=np.uint8)
    masks = np.zeros((2, 5, 4), dtype=bool)
    masks[0, 0:3, 0:3] = True  # inside its outline: (1, 1)
    masks[1, 1:4, 1:4] = True  # inside its outline: (2, 2)
    picture = plotting.overlay(image, masks)
    o, s, grey = list(ORANGE), list(SKY_BLUE), [100, 100, 100]
    # Outlines meet at (1, 2) and (2, 1): (row + 2 * column) // 4 is 1 at both, so the second class's turn.
    assert picture.tolist() == [
        [o, o, o, grey],
        [o, s, s, s],
        [o, s, o, s],
        [grey, s, s, s],
        [grey, grey, grey, grey],
    ]


def test_the_tint_is_the_mean_colour_of_the_pixels_classes():
    image = np.empty((3, 4, 3), dtype=np.uint8)
    image[...] = (10, 20, 60)  # channels keep their order
    masks = np.zeros((3, 3, 4), dtype=bool)
    masks[[0, 1], :, :3] = True  # the same 3 x 3 square, one pixel inside its outline
    assert plotting.overlay(image, masks, alpha=0.5)[1, 1].tolist() == [84, 95, 88]  # of 158, 169.5, 116.5
    assert plotting.overlay(image, masks[[0, 2, 2]])[1, 1].tolist() == [109, 83, 33]  # 0.55 and 0.45
    assert plotting.overlay(image, masks, alpha=0)[1, 3].tolist() == [10, 20, 60]


def test_equal_outlines_show_every_class_in_turn():
    masks = np.ones((3, 12, 16), dtype=bool)
    picture = plotting.overlay(np.zeros((12, 16), np.uint8), masks, alpha=0)
    top_row = picture[0]
    assert {tuple(colour) for colour in top_row.tolist()} == {ORANGE, SKY_BLUE, GREEN}
    assert top_row[:6].tolist() == [list(c) for c in (ORANGE, ORANGE, SKY_BLUE, SKY_BLUE, GREEN, GREEN)]
    assert {tuple(colour) for colour in picture[:, 0].tolist()} == {ORANGE, SKY_BLUE, GREEN}
    assert not picture[1:-1, 1:-1].any()


def test_overlay_leaves_its_inputs_and_empty_masks_alone():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    masks = np.zeros((2, 2, 4), dtype=bool)
    np.testing.assert_array_equal(plotting.overlay(image, masks), image)
    np.testing.assert_array_equal(plotting.overlay(image, masks[:0]), image)
    masks[0, 0, 0] = True
    before = image.copy()
    assert plotting.overlay(image, masks)[0, 0].tolist() == list(ORANGE)  # one pixel is all outline
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "masks", "text"),
    [
        (
            np.zeros((2, 3), np.uint16),
            np.zeros((1, 2, 3), bool),
            r"image has dtype uint16 and shape \(2, 3\), but must be uint8 .*; scale it to 0..255",
        ),
        (np.zeros((2, 3, 4), np.uint8), np.zeros((1, 2, 3), bool), r"shape \(2, 3, 4\).*select 1 or 3"),
        (
            np.zeros((2, 3), np.uint8),
            np.zeros((1, 3, 2), bool),
            r"masks have dtype bool and shape \(1, 3, 2\), but this image needs bool and \(C, 2, 3\)",
        ),
        (np.zeros((2, 3), np.uint8), np.zeros((1, 2, 3), np.uint8), "masks have dtype uint8"),
    ],
)
def test_overlay_says_what_does_not_fit(image, masks, text):
    with pytest.raises(ValueError, match=text):
        plotting.overlay(image, masks)


# sheets


def samples(count: int, num_classes: int, *shapes: tuple[int, int]) -> tuple[list, list]:
    """Images with noise and masks of one box a class, over the shapes in turn."""
    random = np.random.default_rng(0)
    images, masks = [], []
    for index in range(count):
        height, width = shapes[index % len(shapes)]
        images.append(random.integers(0, 256, (height, width), dtype=np.uint8))
        mask = np.zeros((num_classes, height, width), dtype=bool)
        for label in range(num_classes):
            top, left = random.integers(0, height // 2), random.integers(0, width // 2)
            mask[label, top : top + height // 4, left : left + width // 3] = True
        masks.append(mask)
    return images, masks


def panels(figure: Figure) -> list[np.ndarray]:
    return [axes.images[0].get_array() for axes in figure.axes]


def test_samples_show_image_masks_and_overlay():
    images, masks = samples(4, 3, (64, 96))
    figure = plotting.plot_samples(images, masks, ["a", "b", "c", "$x_$"], THREE)
    saved(figure)
    shown = panels(figure)
    assert len(shown) == 12
    for index in range(4):
        np.testing.assert_array_equal(shown[3 * index][..., 1], images[index])
        np.testing.assert_array_equal(
            shown[3 * index + 1], plotting.overlay(np.zeros((64, 96), np.uint8), masks[index], alpha=1)
        )
        np.testing.assert_array_equal(shown[3 * index + 2], plotting.overlay(images[index], masks[index]))
    assert [axes.get_title() for axes in figure.axes[1::3]] == ["a", "b", "c", "$x_$"]
    assert [axes.get_xlabel() for axes in figure.axes[-3:]] == ["image", "masks", "overlay"]
    assert figure.get_suptitle() == "Samples: image, masks, overlay"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == THREE
    patches = figure.legends[0].get_patches()
    np.testing.assert_allclose(
        [patch.get_facecolor()[:3] for patch in patches], np.array([ORANGE, SKY_BLUE, GREEN]) / 255
    )


@pytest.mark.parametrize(("count", "columns"), [(1, 3), (6, 3), (7, 6)])
def test_sheets_of_unequal_images_keep_order_and_room(count, columns):
    images, masks = samples(count, 11, (64, 96), (90, 60), (50, 50))
    titles = [f"case{index}_day20_slice_0076" for index in range(count)]
    figure = plotting.plot_samples(images, masks, titles, ELEVEN)
    saved(figure)
    assert [axes.get_title() for axes in figure.axes[1::3]] == titles
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == columns
    assert len({tuple(np.round(axes.get_position().size, 3)) for axes in figure.axes}) == 1
    assert_apart([axes.title for axes in figure.axes])


def test_large_images_are_shrunk_before_they_are_coloured():
    images, masks = samples(1, 3, (1000, 1500))
    figure = plotting.plot_samples(images, masks, ["large"], THREE)
    assert [panel.shape for panel in panels(figure)] == [(320, 480, 3)] * 3
    assert tuple(ORANGE) in {tuple(colour) for colour in panels(figure)[2].reshape(-1, 3).tolist()}


def test_long_legends_hold_the_classes_that_occur():
    images, masks = samples(2, 20, (40, 50))
    for mask in masks:
        mask[[*range(17), 18]] = False
    figure = plotting.plot_samples(images, masks, ["a", "b"], [f"class {index}" for index in range(20)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 17", "class 19"]
    none = plotting.plot_samples(images, [mask & False for mask in masks], ["a", "b"], [str(i) for i in range(20)])
    assert none.legends == []


def test_predictions_mark_false_finds_and_misses():
    image = np.full((6, 9), 100, dtype=np.uint8)
    truth, found = np.zeros((2, 2, 6, 9), dtype=bool)
    truth[0, 0:5, 0:5] = True
    found[0, 0:5, 2:7] = True
    figure = plotting.plot_predictions([image], [truth], [found], ["a: Dice 0.600"], ["liver", "spleen"], title="Val")
    saved(figure)
    shown = panels(figure)
    np.testing.assert_array_equal(shown[1], plotting.overlay(image, truth))
    right = [158, 127, 55]  # 0.55 * 100 + 0.45 * (230, 159, 0), 158.5 to even
    np.testing.assert_allclose(shown[2][2, 3], right, atol=1)
    np.testing.assert_allclose(shown[2][2, 5], [208, 149, 17], atol=1)  # false: 0.3 of that, 0.7 of the colour
    assert shown[2][2, 1].tolist() == [100, 100, 100]  # missed, inside the outline
    assert shown[2][2, 0].tolist() == list(ORANGE)  # the truth's outline
    assert shown[2][2, 8].tolist() == [100, 100, 100]
    assert [axes.get_xlabel() for axes in figure.axes] == ["image", "ground truth", "prediction"]
    assert figure.axes[1].get_title() == "a: Dice 0.600"
    assert figure.get_suptitle() == "Val"
    assert figure.legends[0].get_title().get_text().endswith("ring: too small to see")


def test_a_false_positive_of_two_pixels_is_ringed_on_every_sheet():
    truth, found = np.zeros((2, 1, 200, 300), dtype=bool)
    truth[0, 20:90, 20:90] = True
    found[0, 150, 240:242] = True
    image = np.full((200, 300), 100, dtype=np.uint8)
    figure = plotting.plot_predictions([image] * 2, [truth] * 2, [truth, found], ["a", "b"], ["liver"], title="")
    assert [len(axes.lines) for axes in figure.axes] == [0, 0, 0, 0, 0, 2]  # a black ring and a white one in it
    (ring,) = figure.axes[-1].lines[0].get_xydata()
    assert ring.tolist() == [240.5, 150]


def test_classes_take_the_colours_that_the_data_declares(monkeypatch):
    monkeypatch.setattr(CURRENT, "class_colours", ["#dc0000", "#00c800"])
    assert plotting.class_colours(2).tolist() == [[220, 0, 0], [0, 200, 0]]
    np.testing.assert_array_equal(plotting.class_colours(3), [ORANGE, SKY_BLUE, GREEN])  # another number of classes


def test_an_empty_mask_says_so_on_the_sample_sheet():
    images, masks = samples(2, 3, (64, 96))
    masks[1][:] = False
    figure = plotting.plot_samples(images, masks, ["a", "b"], THREE)
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [[]] * 4 + [["no class"], []]


def test_sheets_have_a_dark_ground_and_light_words_unless_the_settings_say_otherwise(monkeypatch):
    images, masks = samples(1, 3, (64, 96))
    for rc, dark in ({}, True), ({"figure.facecolor": "white", "text.color": "black"}, False):
        monkeypatch.setattr(CURRENT, "rc", rc)
        figure = plotting.plot_samples(images, masks, ["a"], THREE)
        words = [figure.legends[0].get_texts()[0], figure.axes[1].title]
        assert (max(figure.get_facecolor()[:3]) < 0.2) == dark
        assert [min(to_rgb(one.get_color())) > 0.8 for one in words] == [dark, dark]


def test_augmentations_show_each_draw_with_its_outlines():
    images, masks = samples(6, 3, (60, 90))
    forms = [images[:3], images[3:]], [masks[:3], masks[3:]]
    figure = plotting.plot_augmentations(*forms, ["a", "b"], THREE, title="medical")
    saved(figure)
    shown = panels(figure)
    for panel, image, mask in zip(shown, images, masks, strict=True):
        np.testing.assert_array_equal(panel, plotting.overlay(image, mask, alpha=0))
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == ["original", "draw 1", "draw 2"]
    assert [axes.get_title() for axes in figure.axes] == ["a", "", "", "b", "", ""]
    assert figure.get_suptitle() == "medical"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == THREE


def test_sheets_say_what_does_not_fit():
    images, masks = samples(2, 3, (10, 12))
    with pytest.raises(ValueError, match=r"at least 1, but got {'images': 2, 'masks': 1, 'titles': 2}"):
        plotting.plot_samples(images, masks[:1], ["a", "b"], THREE)
    with pytest.raises(ValueError, match="at least 1, but got"):
        plotting.plot_samples([], [], [], THREE)
    with pytest.raises(ValueError, match=r"some masks hold \[3\] classes, but there are 2 class names"):
        plotting.plot_samples(images, masks, ["a", "b"], THREE[:2])
    with pytest.raises(ValueError, match=r"some masks hold \[2\] classes, but there are 3 class names"):
        plotting.plot_predictions(images, masks, [mask[:2] for mask in masks], ["a", "b"], THREE, title="")
    with pytest.raises(ValueError, match=r"but got {'images of a': 2, 'masks of a': 1}"):
        plotting.plot_augmentations([images], [masks[:1]], ["a"], THREE, title="light")


# bars


def counts_of(names: list[str]) -> pd.DataFrame:
    rows = [[1200 + 7 * index, 30 + index, 0 if index == 1 else 20 + index] for index in range(len(names))]
    return pd.DataFrame(rows, index=names, columns=["train", "val", "test"])


def test_class_counts_stand_upright_for_a_few_classes():
    counts = counts_of([*THREE, "no mask"])
    before = counts.copy(deep=True)
    figure = plotting.plot_class_counts(counts)
    saved(figure)
    (axes,) = figure.axes
    for bars, split in zip(axes.containers, counts.columns, strict=True):
        assert [bar.get_height() for bar in bars] == counts[split].tolist()
        assert bars.get_label() == split
    assert [text.get_text() for text in axes.texts[:6]] == ["1,200", "1,207", "1,214", "1,221", "30", "31"]
    assert axes.texts[9].get_text() == "0"
    assert tick_texts(axes.xaxis) == [*THREE, "no mask"]
    assert axes.get_ylabel() == "images"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "val", "test"]
    assert_apart(axes.texts)
    assert_inside(axes)
    assert_apart(axes.get_xticklabels())
    pd.testing.assert_frame_equal(counts, before)


@pytest.mark.parametrize("names", [ELEVEN, ["a class with a name that is much too long", "b", "c"]])
def test_class_counts_lie_for_many_classes_or_long_names(names):
    counts = counts_of(names)
    figure = plotting.plot_class_counts(counts)
    saved(figure)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.containers[2]] == counts["test"].tolist()
    assert tick_texts(axes.yaxis) == names
    assert axes.get_xlabel() == "images"
    assert axes.yaxis_inverted()  # the first class on top
    assert_apart(axes.texts)
    assert_inside(axes)


def test_class_counts_of_one_image_are_whole_numbers():
    counts = pd.DataFrame({"train": [1, 0], "val": [1, 0]}, index=["organ", "no mask"])
    (axes,) = plotting.plot_class_counts(counts).axes
    assert tick_texts(axes.yaxis)[:3] == ["0", "1", "2"]  # not 0, 0, 0, 1


def test_class_counts_sum_the_rest_of_very_many_classes():
    counts = counts_of([*[f"class {index}" for index in range(33)], "no mask"])
    figure = plotting.plot_class_counts(counts)
    (axes,) = figure.axes
    # the three rarest are the first three: 1200 + 1207 + 1214, 30 + 31 + 32, 20 + 0 + 22
    assert axes.get_title() == "the 30 most frequent of 33 classes\nsum of the rest: train 3,621, val 93, test 42"
    assert tick_texts(axes.yaxis)[:2] == ["class 32", "class 31"]
    assert tick_texts(axes.yaxis)[-2:] == ["class 3", "no mask"]
    assert axes.containers[0][30].get_width() == 1200 + 7 * 33


def scores_of(names: list[str]) -> dict:
    classes = {name: {"dice": 0.9 - 0.05 * i, "iou": 0.8 - 0.05 * i, "hd95": 3.0} for i, name in enumerate(names)}
    return {
        "mean_dice": 0.8125,
        "mean_iou": 0.7,
        "aggregation": "image",
        "empty_policy": "skip",
        "num_images": 1214,
        "classes": classes,
    }


@pytest.mark.parametrize("names", [THREE, ELEVEN])
def test_class_scores_are_bars_in_the_class_colours(names):
    scores = scores_of(names)
    before = copy.deepcopy(scores)
    figure = plotting.plot_class_scores(scores)
    saved(figure)
    (axes,) = figure.axes
    dice, iou = axes.containers
    np.testing.assert_allclose([bar.get_width() for bar in dice], [0.9 - 0.05 * i for i in range(len(names))])
    np.testing.assert_allclose([bar.get_width() for bar in iou], [0.8 - 0.05 * i for i in range(len(names))])
    np.testing.assert_allclose([bar.get_facecolor()[:3] for bar in dice], plotting.class_colours(len(names)) / 255)
    assert [text.get_text() for text in axes.texts[:2]] == ["0.900", "0.850"]
    assert tick_texts(axes.yaxis) == names
    assert [line.get_xdata()[0] for line in axes.lines] == [0.8125, 0.7]
    assert axes.get_title() == "1,214 images; aggregation: image; empty policy: skip"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["Dice", "IoU", "mean Dice 0.812", "mean IoU 0.700"]
    assert_apart(axes.texts)
    assert_inside(axes)
    assert scores == before


def test_undefined_scores_are_named():
    scores = scores_of(THREE)
    scores["classes"]["small_bowel"] = {"dice": None, "iou": float("nan")}
    scores["mean_iou"] = None
    figure = plotting.plot_class_scores(scores)
    saved(figure)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [
        "0.900",
        "not in any image",
        "0.800",
        "0.800",
        "not in any image",
        "0.700",
    ]
    assert axes.containers[0][1].get_width() == 0
    assert len(axes.lines) == 1


# confusion


def test_confusion_by_hand():
    confusion = np.array([[1990, 10, 0], [0, 0, 0], [1, 3000, 4999]])
    before = confusion.copy()
    figure = plotting.plot_confusion(confusion, THREE, title="Test, 3 images")
    saved(figure)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == [
        "99.5",
        "0.5",
        "0",
        "–",
        "–",
        "–",
        "<0.1",
        "37.5",
        "62.5",
    ]
    assert [text.get_color() for text in axes.texts[-3:]] == ["black", "black", "white"]
    heat = axes.images[0].get_array()
    np.testing.assert_allclose(heat[2], [0.0125, 37.5, 62.4875])
    assert heat.mask.tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert tick_texts(axes.yaxis) == ["large_bowel\n2,000", "small_bowel\n0", "stomach\n8,000"]
    assert tick_texts(axes.xaxis) == THREE
    assert (axes.get_ylabel(), axes.get_xlabel()) == (
        "true class (pixels)",
        "predicted class",
    )
    assert figure.get_suptitle() == "Test, 3 images"
    np.testing.assert_array_equal(confusion, before)


def test_a_share_is_never_rounded_to_none_or_all():
    confusion = np.array([[9999, 1], [0, 7]])
    axes = plotting.plot_confusion(confusion, ["a", "b"], title="").axes[0]
    assert [text.get_text() for text in axes.texts] == ["99.9", "<0.1", "0", "100"]


@pytest.mark.parametrize(("size", "numbers"), [(11, 121), (16, 0), (40, 0)])
def test_confusion_writes_numbers_where_they_fit(size, numbers):
    confusion = np.full((size, size), 12345) + np.eye(size, dtype=int) * 10**8
    figure = plotting.plot_confusion(confusion, [f"sign_symbol_{i}" for i in range(size)], title="Test")
    saved(figure)
    assert len(figure.axes[0].texts) == numbers
    assert_apart(figure.axes[0].texts)
    assert_apart(figure.axes[0].get_yticklabels())


def test_confusion_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"confusion has shape \(2, 2\), but 3 names need \(3, 3\)"):
        plotting.plot_confusion(np.zeros((2, 2), int), THREE, title="")


# curves


def history_of(val_dice: list[float]) -> pd.DataFrame:
    count = len(val_dice)
    columns = {"epoch": range(1, count + 1), "learning_rate": np.geomspace(1e-3, 1e-4, count)}
    for offset, name in enumerate(["loss", "dice", "pixel_accuracy"]):
        columns[f"train_{name}"] = np.linspace(0.5, 0.6, count) + offset
        columns[f"val_{name}"] = np.linspace(0.4, 0.5, count) + offset
    return pd.DataFrame(columns).assign(val_dice=val_dice)


def test_history_marks_the_best_epoch():
    history = history_of([0.1, 0.8, 0.6, 0.8])
    before = history.copy(deep=True)
    figure = plotting.plot_history(history)
    saved(figure)
    assert figure.get_suptitle() == "Training curves: best val Dice 0.800 at epoch 2 of 4"
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Dice", "Pixel accuracy", "Learning rate"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "epoch", "epoch"]
    columns = [
        ["train_loss", "val_loss"],
        ["train_dice", "val_dice"],
        ["train_pixel_accuracy", "val_pixel_accuracy"],
    ]
    for axes, names in zip(figure.axes, [*columns, ["learning_rate"]], strict=True):
        *lines, best = axes.lines
        assert best.get_xdata()[0] == 2
        assert [line.get_xdata().tolist() for line in lines] == [[1, 2, 3, 4]] * len(names)
        assert [line.get_ydata().tolist() for line in lines] == [history[name].tolist() for name in names]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "val", "best epoch"]
    pd.testing.assert_frame_equal(history, before)


def test_history_of_one_epoch_has_markers():
    figure = plotting.plot_history(history_of([0.25]))
    saved(figure)
    assert figure.axes[1].lines[1].get_marker() == "."
    assert "1" in tick_texts(figure.axes[2].xaxis)
    assert plotting.plot_history(history_of([0.2] * 31)).axes[1].lines[1].get_marker() == ""


@pytest.mark.parametrize(
    ("val_dice", "title"),
    [
        ([np.nan, 0.2, np.inf, 0.1], "Training curves: best val Dice 0.200 at epoch 2 of 4"),
        ([np.nan, np.nan], "Training curves: 2 epochs, no val Dice"),
        ([], "Training curves: 0 epochs, no val Dice"),
    ],
)
def test_history_with_gaps(val_dice, title):
    history = history_of(val_dice).assign(train_pixel_accuracy=np.nan)
    figure = plotting.plot_history(history)
    saved(figure)
    assert figure.get_suptitle() == title


# style


def test_figures_do_not_touch_the_settings_of_the_process():
    before = dict(matplotlib.rcParams)
    with ThreadPoolExecutor(4) as pool:
        figures = list(pool.map(plotting.plot_history, [history_of([0.1, 0.2])] * 4))
    assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(saved(figures[0]), saved(figures[3]))


def test_figures_keep_their_style_when_they_are_saved():
    figures = [
        plotting.plot_history(history_of([0.1, 0.2])),
        plotting.plot_confusion(np.eye(2, dtype=int), ["a", "b"], title=""),
        plotting.plot_class_counts(pd.DataFrame({"train": [3, 4]}, index=["a", "no mask"])),
    ]
    with matplotlib.rc_context({"font.size": 20}):  # ticks are made when a figure is drawn
        for figure in figures:
            saved(figure)
            axles = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
            sizes = {label.get_fontsize() for axis in axles for label in axis.get_ticklabels(which="both")}
            assert sizes == {CURRENT.font_size}


def test_plotting_needs_neither_pyplot_nor_torch():
    code = (
        "import sys; from seg_pipeline.segmentation import plotting; "
        "print(sorted({'matplotlib.pyplot', 'torch', 'kedro'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
