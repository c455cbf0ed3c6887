import io

import pandas as pd
import pytest

from seg_pipeline.segmentation.plotting import plot_area_differences
from seg_pipeline.segmentation.report.agreement import agreement_page, human_ceiling
from seg_pipeline.segmentation.report.results import Results

SUMMARY = {"mean_dice": 0.87, "mean_dice_interval": [0.8, 0.9], "classes": {"lesion": {"dice": 0.87}}}
AREAS = {"num_images": 2, "mean": 4.0, "deviation": 2.0, "limits": [0.08, 7.92]}
LESION = {
    "num_images": 2,
    "dice": 0.87,
    "iou": 0.77,
    "kappa": 0.86,
    "surface_dice": 0.9,
    "hd95": 2.25,
    **{f"{name}_interval": None for name in ("dice", "iou", "kappa", "surface_dice", "hd95")},
    "area_difference": AREAS,
}
AGREEMENT = {
    "num_images": 2,
    "num_groups": 2,
    "aggregation": "image",
    "empty_policy": "skip",
    "confidence": 0.95,
    "mean_dice": 0.87,
    "mean_iou": 0.77,
    "mean_kappa": 0.86,
    "distance_unit": "mm",
    "tolerance": 3.0,
    **{f"mean_{name}_interval": [0.8, 0.9] for name in ("dice", "iou", "kappa")},
    "area_unit": "mm²",
    "other": "data/reader_b",
    "classes": {"lesion": LESION, "cyst": {**LESION, "area_difference": {**AREAS, "mean": None, "limits": None}}},
    "by_split": {"test": SUMMARY},
    "only_first": {"classes": ["node"], "num_images": 0},
    "only_second": {"classes": [], "num_images": 3},
}
IMAGES = pd.DataFrame(
    {
        "image_id": ["a", "b", "c"],
        "class": "lesion",
        "dice": [0.9, 0.5, float("nan")],
        "first_area": [30.0, 1200.0, 0.0],
        "second_area": [34.0, 1204.0, 0.0],
    }
)


def test_the_page_says_how_well_two_readers_agree():
    chart = io.BytesIO()
    plot_area_differences(IMAGES, {"lesion": AREAS}, unit="mm²").savefig(chart)
    page = agreement_page(AGREEMENT, IMAGES, chart.getvalue())
    for text in (
        "data/reader_b",
        "3 images that only the second reader annotated: left out.",
        "Classes that only the first reader annotated are left out: node.",
        "0.870",
        "HD95 (mm)",
        "2.2",
        "+4.0",
        "+0.1 to +7.9",
        "1,204",
        "in both readers&#39; masks is left out. A class that only one reader drew scores 0",
    ):
        assert text in page
    assert page.index('"image">b<') < page.index('"image">a<')
    assert '"image">c<' not in page  # neither reader drew anything


def test_the_plot_of_the_areas_draws_means_and_limits():
    figure = plot_area_differences(IMAGES, {"lesion": AREAS}, unit="mm²")
    (axes,) = (one for one in figure.axes if one.get_visible())
    assert axes.collections[0].get_offsets().tolist() == [[32, 4], [1202, 4]]
    assert [line.get_ydata()[0] for line in axes.lines] == [4, 0.08, 7.92]
    assert axes.get_ylabel() == "second minus first (mm²)"


def results(split="test", **found):
    manifest = pd.DataFrame({"image_id": ["a", "b", "c"], "split": ["test", "test", "val"]})
    return Results(manifest=manifest, findings=pd.DataFrame(), run_command="", test_scores={"split": split}, **found)


def test_the_human_ceiling_is_that_of_the_split_that_was_scored():
    people, found, sentence = human_ceiling(results(reader_agreement=AGREEMENT))
    assert (people, found) == ("two readers", SUMMARY)
    assert sentence.startswith("Two readers agree on images of this split with mean Dice 0.870 (lesion 0.870): the fir")
    assert human_ceiling(results("val", reader_agreement=AGREEMENT)) == ("", None, "")
    assert human_ceiling(results()) == ("", None, "")


def test_the_human_ceiling_of_several_annotators():
    rows = [("a", "cat", 2, 0.8, 0.7), ("b", "cat", 3, 0.6, 0.5), ("b", "dog", 3, 0.5, 0.4), ("c", "cat", 2, 0.1, 0.1)]
    table = pd.DataFrame(rows, columns=["image_id", "class", "annotators", "dice", "kappa"])
    people, found, sentence = human_ceiling(results(annotator_agreement=table))
    assert (people, found["mean_dice"]) == ("annotators", pytest.approx(0.6))
    told = "Several people annotated 2 images of this split; two of them agree with mean Dice 0.600 (cat 0.700, dog 0.5"
    assert sentence.startswith(told)
    assert human_ceiling(results(annotator_agreement=table[:0])) == ("", None, "")
