from pathlib import Path

import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest.exclusions import COLUMNS, exclude_images

IMAGES = pd.DataFrame(
    {
        "image_id": [
            "case7_day0_slice_0001",
            "case7_day0_slice_0002",
            "case7_day1_slice_0001",
            "case8_day0_slice_0001",
        ],
        "file": ["a.png", "b.png", "c.png", "d.png"],
        "row": [2, 5, 8, 11],
    }
)


def listed(*entries):
    return pd.DataFrame(entries, columns=COLUMNS)


def test_listed_images_are_dropped_or_flagged_and_each_is_a_finding():
    kept, findings = exclude_images(
        IMAGES, listed(("case7_day0_*", "drop", "faulty masks"), ("case8_day0_slice_000[1-3]", "flag", "{unclear}"))
    )
    assert kept["image_id"].tolist() == ["case7_day1_slice_0001", "case8_day0_slice_0001"]
    assert findings[["file", "row", "action"]].to_numpy().tolist() == [
        ["a.png", 2, "dropped"],
        ["b.png", 5, "dropped"],
        ["d.png", 11, "flagged"],
    ]
    assert findings["reason"].tolist()[1:] == [
        "listed as case7_day0_*: faulty masks",
        "listed as case8_day0_slice_000[1-3]: {unclear}",
    ]


def test_an_entry_that_is_the_name_of_an_image_means_this_image():
    images = IMAGES.assign(image_id=["scan [1]", "scan 1", "scan *", "scan 2"])
    kept, findings = exclude_images(images, listed(("scan [1]", "drop", "x"), ("scan *", "drop", "y")))
    assert kept["image_id"].tolist() == ["scan 1", "scan 2"]
    assert set(findings["file"]) == {"a.png", "c.png"}


def test_dropping_goes_before_flagging():
    kept, findings = exclude_images(IMAGES, listed(("case7*", "flag", "x"), ("case7_day0*", "drop", "y")))
    assert len(kept) == 2
    assert findings["action"].tolist() == ["dropped", "dropped", "flagged"]


def test_an_entry_that_fits_no_image_is_told():
    kept, findings = exclude_images(IMAGES, listed(("case9_*", "drop", "x")))
    assert len(kept) == 4
    assert findings["rule"].tolist() == ["listed_image_unknown"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (listed(("a", "remove", "x")), r"has the actions \['remove'\], expected drop or flag"),
        (listed(("a", "drop", None)), "an entry without pattern, action or reason"),
        (
            pd.DataFrame({"image_id": ["a"]}),
            r"lacks the columns \['images', 'action', 'reason'\]; it has \['image_id'\]",
        ),
    ],
)
def test_a_list_of_another_form_is_refused(table, text):
    with pytest.raises(ValueError, match=text):
        exclude_images(IMAGES, table)


def test_the_list_of_uw_madison_fits_its_names():
    table = pd.read_csv(Path(__file__).parents[3] / "conf" / "uw_madison" / "excluded_images.csv")
    ids = [f"case{case}_day{day}_slice_{number:04d}" for case, day, number in ((7, 0, 1), (81, 30, 144), (85, 23, 119))]
    kept, findings = exclude_images(pd.DataFrame({"image_id": ids, "file": "", "row": 2}), table)
    assert kept["image_id"].tolist() == ["case85_day23_slice_0119"]
    assert findings.loc[findings["rule"] == "listed_image", "action"].tolist() == ["dropped", "dropped", "flagged"]


def test_a_list_that_drops_every_image_is_an_error():
    with pytest.raises(ValueError, match="each of the 4 images is listed to be dropped; correct `excluded_images`"):
        exclude_images(IMAGES, listed(("case*", "drop", "faulty")))
