"""Figures of scores: what they show, by hand-worked numbers, and that nothing is lost where there is much."""

import io

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.plotting.overlays import tiny_spots

THREE = ["large_bowel", "small_bowel", "stomach"]
NAN = float("nan")


def saved(figure):
    """Layout is computed when a figure is saved."""
    figure.savefig(io.BytesIO(), format="png", dpi=60)
    return figure


def texts(axes):
    return [text.get_text() for text in axes.texts]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_intervals_are_lines_at_the_ends_of_the_bars():
    classes = {
        "box": {"dice": 0.8, "iou": 0.6, "dice_interval": [0.7, 0.95], "iou_interval": [0.5, 0.55]},
        "disc": {"dice": 0.5, "iou": 0.4, "dice_interval": None},
    }
    means = {"mean_dice": 0.65, "mean_iou": 0.5, "aggregation": "image", "empty_policy": "skip", "num_images": 9}
    figure = saved(plotting.plot_class_scores({**means, "classes": classes, "num_groups": 4, "confidence": 0.95}))
    (axes,) = figure.axes
    lines = [[tuple(point[:, 0]) for point in lines.get_segments()] for lines in axes.collections]
    assert lines == [[(0.7, 0.95)], [(0.5, 0.55)]]
    dice, other, iou, _ = axes.texts
    assert [dice.xy[0], other.xy[0], iou.xy[0]] == [0.95, 0.5, 0.6]  # a number stands where bar and line end
    assert axes.get_title().endswith("\nline: 95 % confidence interval over 4 groups")


def test_dice_over_size_leaves_out_what_truth_does_not_show():
    rows = pd.DataFrame(
        {
            "class": ["stomach"] * 5 + ["large_bowel"],
            "dice": [0.9, 0.5, 0.7, 0.1, 0.0, 1.0],
            "true_pos": [90, 5, 30, 1, 0, 8],
            "false_neg": [10, 5, 0, 0, 0, 0],  # areas 100, 10, 30, 1; the fifth is a false find
        }
    )
    figure = saved(plotting.plot_object_sizes(rows, THREE))
    shown = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert list(shown) == ["large_bowel", "stomach"]
    stomach = shown["stomach"]
    np.testing.assert_array_equal(stomach.collections[0].get_offsets(), [[1, 0.1], [10, 0.5], [30, 0.7], [100, 0.9]])
    assert labels(stomach.xaxis) == ["1", "10", "100"]
    (bands,) = stomach.lines  # two bands of two images
    np.testing.assert_allclose(bands.get_xydata(), [[5.5, 0.3], [65, 0.8]])


@pytest.mark.parametrize(
    ("areas", "expected"),
    [((130, 900), ["150", "300", "700"]), ((440, 610), ["500"]), ((3, 20_000), ["10", "100", "1,000", "10,000"])],
)
def test_areas_are_round_numbers_written_alike_in_every_panel(areas, expected):
    rows = pd.DataFrame({"class": "box", "dice": 0.5, "true_pos": areas, "false_neg": 0})
    (axes,) = saved(plotting.plot_object_sizes(rows, ["box"])).axes
    assert labels(axes.xaxis) == expected


def test_threshold_curves_mark_the_threshold_in_use():
    curve = pd.DataFrame(
        {"class": "small_bowel", "threshold": [0.6, 0.4], "dice": [0.7, 0.8], "precision": [1, 0.5], "recall": [0, 0.9]}
    )
    figure = saved(plotting.plot_thresholds(curve, THREE, {"small_bowel": 0.4}))
    (axes,) = figure.axes
    assert axes.get_title() == "small_bowel\nin use: 0.40"
    dice, precision, recall, chosen = axes.lines
    np.testing.assert_array_equal(dice.get_xydata(), [[0.4, 0.8], [0.6, 0.7]])
    assert [line.get_linestyle() for line in (dice, precision, recall)] == ["-", "--", ":"]
    assert chosen.get_xdata()[0] == 0.4
    assert axes.get_ylim() == (-0.03, 1.01)  # recall is 0 somewhere
    assert figure.legends[0].get_lines()[0].get_color() == "black"  # it stands for every class
    np.testing.assert_allclose(dice.get_color(), plotting.class_colours(3)[1] / 255)


def test_threshold_curves_show_the_range_of_the_scores():
    curve = pd.DataFrame(
        {"class": "box", "threshold": [0.6, 0.4], "dice": [0.84, 0.8], "precision": [0.9, 0.97], "recall": [0.73, 0.9]}
    )
    (axes,) = saved(plotting.plot_thresholds(curve, ["box"], {})).axes
    assert axes.get_ylim() == pytest.approx((0.69, 1.01))


def test_reliability_leaves_out_empty_bins():
    bins = pd.DataFrame(
        {"class": "stomach", "confidence": [0.1, NAN, 0.9], "frequency": [0.2, NAN, 0.8], "pixels": [1000, 0, 10]}
    ).assign(calibrated=False)
    figure = saved(plotting.plot_reliability(bins, THREE, {"stomach": 0.0625, "large_bowel": None}))
    (axes,) = figure.axes
    assert axes.get_title() == "stomach\nECE 0.0625"
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[0.1, 0.2], [0.9, 0.8]])
    large, small = axes.collections[0].get_sizes()
    assert large == 82
    assert small < large
    after = pd.concat([bins, bins.assign(calibrated=True, confidence=[0.2, NAN, 0.8])])
    (axes,) = saved(plotting.plot_reliability(after, THREE, {})).axes
    _, before, calibrated = (line.get_xydata().tolist() for line in axes.lines)
    assert (before, calibrated) == ([[0.1, 0.2], [0.9, 0.8]], [[0.2, 0.2], [0.8, 0.8]])


@pytest.mark.parametrize("number", [1, 3, 30])
def test_many_classes_are_cut_and_the_figure_says_so(number):
    names = [f"class {index}" for index in range(number)]
    rows = pd.DataFrame({"class": np.repeat(names, range(1, number + 1)), "dice": 0.5, "true_pos": 4, "false_neg": 0})
    figure = saved(plotting.plot_object_sizes(rows, names))
    shown = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert shown == names[-12:]  # those with most images, in the classes' order
    assert ("the 12 of 30 classes with the most values" in figure.get_supxlabel()) == (number == 30)


def test_groups_are_ordered_from_the_worst():
    rows = pd.DataFrame(
        {
            "group": ["a", "a", "b", "b", "c", "c"],
            "class": ["box", "disc"] * 3,
            "dice": [0.9, 0.7, 0.2, NAN, NAN, NAN],
        }
    )
    figure = saved(plotting.plot_group_scores(rows, ["box", "disc"]))
    (axes,) = figure.axes
    assert labels(axes.yaxis) == ["b", "a"]  # c has no score
    means = axes.lines[-1]
    np.testing.assert_allclose(means.get_xdata(), [0.2, 0.8])
    np.testing.assert_allclose(axes.collections[0].get_segments()[1], [[0.7, 1], [0.9, 1]])
    assert {line.get_marker() for line in axes.lines[:2]} == {"o", "s"}  # colour is not the only difference


def test_many_groups_show_the_worst():
    rows = pd.DataFrame({"group": [f"g{n:02}" for n in range(50)], "class": "box", "dice": np.arange(50) / 100})
    figure = saved(plotting.plot_group_scores(rows, ["box"]))
    assert labels(figure.axes[0].yaxis) == [f"g{n:02}" for n in range(40)]
    assert figure.legends[0].get_title().get_text() == "bar: range over the classes; 10 better groups are not shown"


def test_gains_say_what_was_kept():
    gains = pd.DataFrame(
        {
            "step": ["thresholds", "fill_holes", "min_area", "min_area"],
            "class": ["box", "disc", "box", "disc"],
            "value": [0.35, True, 5, 9],
            "dice_before": [0.5, 0.6, 0.5, 0.5],
            "dice_after": [0.51, 0.65, 0.504, 0.501],
            "gain_interval": [[0.001, 0.02], None, [-0.001, 0.01], [0.0005, 0.002]],
            "kept": [True, False, False, False],
        }
    )
    (axes,) = saved(plotting.plot_postprocessing_gains(gains)).axes
    assert labels(axes.yaxis) == ["disc: fill_holes ", "box: thresholds 0.35", "box: min_area 5", "disc: min_area 9"]
    assert texts(axes) == [
        "+0.0500 not kept",
        "+0.0100 (+0.0010 to +0.0200) kept",
        "+0.0040 (-0.0010 to +0.0100) not kept: the interval contains 0",
        "+0.0010 (+0.0005 to +0.0020) not kept: the gain is too small",
    ]
    assert axes.get_position().width > 0.4  # the outcomes widen the figure: they took all but 22 % of it
    circles = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() for line in circles] == ["white", "black", "white", "white"]


def test_options_show_gain_and_cost():
    options = pd.DataFrame(
        {
            "option": ["plain", "flips"],
            "measure": "Dice",
            "score": [0.8, 0.82],
            "gain": [0, 0.02],
            "gain_low": [0, 0.01],
            "gain_high": [0, 0.03],
            "seconds_per_image": [0.02, 1.8126],
            "cost": [1, 4.0],
            "used": [False, True],
        }
    )
    score, cost = saved(plotting.plot_prediction_options(options)).axes
    assert labels(score.yaxis) == ["plain", "\u25b6 flips"]
    assert texts(score) == ["0.800", "0.820, gain +0.0200 (+0.0100 to +0.0300)"]
    assert texts(cost) == ["1.0x, 20 ms", "4.0x, 1,813 ms"]
    assert score.get_xlim() == (0, 1)  # the texts stand outside


def test_a_comparison_shows_the_verdict_in_form_and_words():
    summary = pd.DataFrame(
        {
            "class": ["all classes", "box", "disc"],
            "num_images": [4, 4, 3],
            "difference": [0.1, 0.3, -0.2],
            "low": [-0.1, 0.1, -0.3],
            "high": [0.2, 0.4, -0.1],
            "verdict": ["no difference shown", "better", "worse"],
        }
    )
    figure = saved(plotting.plot_comparison(summary, title="Difference in Dice: this run minus data/other"))
    (axes,) = figure.axes
    assert texts(axes) == ["+0.100 no difference shown", "+0.300 better", "-0.200 worse"]
    assert [line.get_marker() for line in axes.lines[1:]] == ["o", ">", "<"]
    assert axes.get_xlim() == pytest.approx((-0.44, 0.44))
    assert figure.get_suptitle() == "Difference in Dice: this run minus data/other"


def test_truth_and_prediction_differ_in_form():
    image = np.full((40, 60), 100, dtype=np.uint8)
    truth, found = np.zeros((2, 1, 40, 60), dtype=bool)
    truth[0, 5:35, 5:25] = True
    found[0, 5:35, 35:55] = True
    drawn = plotting.overlay_prediction(image, truth, found, side=60)
    assert drawn.shape == (40, 60, 3)
    np.testing.assert_array_equal(drawn[20, 5], plotting.class_colours(1)[0])  # the line around the truth
    np.testing.assert_array_equal(drawn[20, 4], [0, 0, 0])  # its dark edge
    np.testing.assert_array_equal(drawn[20, 15], [100, 100, 100])  # inside: nothing was predicted
    assert len(np.unique(drawn[20, 38:52], axis=0)) == 2  # stripes, and what lies between them
    assert (drawn[20, 30] == 100).all()


def test_of_very_many_spots_the_largest_are_ringed():
    masks = np.zeros((2, 60, 60), dtype=bool)
    masks[0, ::4, ::4] = True  # 225 spots of one pixel
    masks[1, 30, 7:9] = masks[1, 10:50, 20:50] = True
    spots = tiny_spots(masks, 1.0)
    assert len(spots) == 20
    assert spots[0].tolist() == [7.5, 30]
    assert spots[1].tolist() == [0, 0]


def test_a_spot_of_one_pixel_is_ringed_and_small_images_grow():
    image = np.zeros((30, 20, 3), dtype=np.uint8)
    truth, found = np.zeros((2, 1, 30, 20), dtype=bool)
    found[0, 10, 10] = True
    drawn = plotting.overlay_prediction(image, truth, found, side=60)
    assert drawn.shape == (60, 40, 3)
    assert drawn[20, 20 - 9].max() > 200  # on the ring, 9 pixels left of the spot
    plain = plotting.overlay_prediction(image, truth, truth, side=60)
    assert not plain.any()


def test_f1_of_objects_is_a_curve_over_the_thresholds():
    curve = {"0.50": {"f1": 0.9}, "0.55": {"f1": 0.6}, "0.60": {"f1": None}}
    figure = saved(plotting.plot_object_scores({"cell": {"num_true": 1200, "by_threshold": curve}}))
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), [[0.5, 0.9], [0.55, 0.6], [0.6, np.nan]])
    assert line.get_label() == "cell (1,200 objects)"
