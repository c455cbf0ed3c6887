import cv2
import numpy as np
import pytest

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import from_pixels, number_objects, only
from seg_pipeline.new_data.plan import Classes


def drawn(numbers, pieces=1):
    """A mask in which each number fills ``pieces`` squares of 2 x 2 pixels."""
    values = np.zeros((60, 60), np.uint16)
    for place, number in enumerate(np.repeat(numbers, pieces).astype(int)):
        top, left = divmod(place, 15)
        values[4 * top : 4 * top + 2, 4 * left : 4 * left + 2] = number
    return values


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        pytest.param([drawn(range(1, n + 1)) for n in (3, 5, 8)], True, id="counted in each image"),
        pytest.param([drawn(range(1, n + 1)) for n in (8, 8, 8)], False, id="always as many: classes"),
        pytest.param([drawn([2, 5, 6]), drawn([1, 2, 5, 8]), drawn([3])], False, id="few values that do not count"),
        pytest.param([drawn(range(n, 40, 2)) for n in (1, 2, 11)], True, id="kept through a film"),
        pytest.param([drawn(range(1, 31)), drawn(range(7, 37), pieces=2)], False, id="many classes in several pieces"),
        pytest.param([drawn(range(n, n + 5)) for n in range(1, 150, 5)], False, id="many classes, few per image"),
        pytest.param([drawn([]), drawn([])], False, id="empty"),
    ],
)
def test_values_that_number_objects(masks, expected):
    assert number_objects(masks) is expected


@pytest.mark.parametrize(
    ("wanted", "unlabelled", "expected"),
    [
        ("1=pet,3=border", None, (["pet", "border"], "background", [2])),  # not ignored: a model would never see it
        ("1=pet,3=border", "ignore", (["pet", "border"], "ignore", [2])),
        ("1=pet", None, (["pet"], "background", [2, 3])),
        ("1=pet,2=rest,3=border", None, (["pet", "rest", "border"], "ignore", [])),
    ],
)
def test_a_class_that_is_left_out_is_background(wanted, unlabelled, expected):
    classes = Classes({"class_1": 1, "class_2": 2, "class_3": 3}, "multiclass", "ignore")
    kept = only(classes, wanted, indexed=True, unlabelled=unlabelled)
    assert (list(kept.values), kept.unlabelled_pixels, kept.background) == expected


def test_a_background_that_has_a_value_is_told(tmp_path, capsys):
    mask = np.full((20, 30), 2, np.uint8)
    mask[5:12, 8:20], mask[6:11, 9:19] = 3, 1
    cv2.imwrite(str(tmp_path / "a.png"), mask)
    ask = Asker({}, interactive=False)
    assert list(from_pixels([tmp_path / "a.png"], {}, ask, alone="foreground").values.values()) == [1, 2, 3]
    told = "class_2 covers most pixels and most of the images' edges: if it is the background, which would raise the "
    assert f"{told}mean score, leave it out with --classes class_1,class_3" in ask.decisions
