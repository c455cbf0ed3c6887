import numpy as np
import pytest

from seg_pipeline.new_data.classes import number_objects


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
