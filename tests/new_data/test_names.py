import re

import pytest

from seg_pipeline.new_data.layouts.pictures import images_by_name, match
from seg_pipeline.new_data.names import propose


def said(names, **options):
    """What the pattern reads from the first name."""
    proposed = propose(names, **options)
    matches = [re.fullmatch(proposed.pattern, name) for name in names]
    assert all(matches), proposed.pattern
    return matches[0].groupdict()


SLICES = [f"case{case}_day{day}_slice_{frame:04d}" for case in (1, 2) for day in (0, 7) for frame in (3, 4)]
DRIVES = ["0001TP_006690", "0001TP_006720", "0006R0_f00930", "0006R0_f00960"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (SLICES, {"image_id": SLICES[0], "group": "case1", "series": "case1_day0", "frame": "0003"}),
        (DRIVES, {"image_id": DRIVES[0], "group": "0001TP", "frame": "006690"}),
        (["img_1", "img_2", "img_3"], {"image_id": "img_1"}),  # numbers alone tell no group
        (["a_1", "b", "c-2"], {"image_id": "a_1"}),
        (["p1/x_1", "p1/x_2", "p2/x_1", "p2/x_2"], {"image_id": "p1/x_1", "group": "p1", "frame": "1"}),
        (["p1/x_1", "p1/x_2", "p2/x_3", "p2/x_4"], {"image_id": "x_1", "group": "p1", "frame": "1"}),
        (["train/a_1", "train/a_2", "val/b_3", "val/b_4"], {"image_id": "a_1", "group": "a", "frame": "1"}),
        (["i1/png/i1", "i2/png/i2"], {"image_id": "i1"}),  # a folder an image
    ],
)
def test_what_names_say(names, expected):
    assert said(names) == expected


def test_a_finer_group_can_be_wanted_and_none():
    assert said(SLICES, group="2")["group"] == "case1_day0"
    assert "group" not in said(SLICES, group="none")


def test_a_later_name_of_the_same_kind_is_matched_too():
    pattern = propose(["case1_day0_001", "case1_day0_002", "case2_day0_001", "case2_day0_002"]).pattern
    assert re.fullmatch(pattern, "case31_day8_120")


@pytest.mark.parametrize("wanted", ["0", "7", "case"])
def test_a_group_that_names_no_part_is_refused(wanted):
    with pytest.raises(ValueError, match=f"a number of parts from 1 to 4, found '{wanted}'"):
        propose(SLICES, group=wanted)


def test_many_files_take_time_in_proportion():
    """With a search through all files per file, this would take many minutes."""
    images = images_by_name([f"images/{number:05d}.png" for number in range(10_000)])
    found = match([f"{number:05d}_mask" for number in range(10_000)], images)
    assert found.pattern == "(?P<mask_id>(?P<image_id>[^/]+)_mask)"
    assert found.images[77] == "00077"


@pytest.mark.parametrize(
    ("masks", "classes"),
    [
        (["liver/a", "liver/b", "liver/c", "spleen/a", "spleen/b", "spleen/c"], ["liver", "spleen"]),  # few images
        (["a/1", "a/2", "b/1", "b/2", "c/1", "c/2"], None),  # objects by number
        (["a/x7", "a/q3", "b/k2", "b/d1"], None),  # objects by name
    ],
)
def test_folders_of_masks_are_classes_if_each_image_has_all(masks, classes):
    found = match(masks, images_by_name([f"images/{name}.png" for name in "abc"]))
    assert found.classes is None if classes is None else sorted(set(found.classes)) == classes
