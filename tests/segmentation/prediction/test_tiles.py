import numpy as np
import pytest

from seg_pipeline.segmentation.prediction.tiles import Stitcher, gaussian_weights, windows


def places(spans):
    return [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in spans]


def test_windows_by_hand():
    """Seven rows under windows of four, steps of two at most: at 0, 2 (of 1.5) and 3; eight columns: at 0 and 3."""
    assert places(windows((7, 8), (4, 5), overlap=0.5)) == [
        (row, row + 4, column, column + 5) for row in (0, 2, 3) for column in (0, 2, 3)
    ]
    assert places(windows((7, 8), (4, 5), overlap=0)) == [
        (row, row + 4, column, column + 5) for row in (0, 3) for column in (0, 3)
    ]


def test_an_image_smaller_than_a_window_is_one_window():
    assert places(windows((3, 9), (4, 6), overlap=0)) == [(0, 3, 0, 6), (0, 3, 3, 9)]


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_windows_cover_the_image_and_overlap_enough(overlap):
    size, shape = (8, 12), (37, 50)
    covered = np.zeros(shape, dtype=int)
    spans = windows(shape, size, overlap=overlap)
    for span in spans:
        covered[span] += 1
    assert covered.min() > 0
    starts = sorted({columns.start for _, columns in spans})
    assert max(np.diff(starts)) <= max(1, size[1] * (1 - overlap))


def test_weights_are_symmetric_and_highest_in_the_middle():
    weights = gaussian_weights((5, 9))
    assert weights.argmax() == 2 * 9 + 4
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert weights[2, 4] == 1
    assert weights[2, 0] == pytest.approx(np.exp(-0.5 * (4 / (9 / 8)) ** 2))
    assert weights.min() > 0


def test_stitching_equal_values_returns_them_unchanged():
    values = np.random.default_rng(0).random((2, 21, 34), dtype=np.float32)
    stitcher = Stitcher(2, (21, 34))
    for window in windows((21, 34), (8, 16), overlap=0.5):
        stitcher.add(window, values[:, *window])
    np.testing.assert_allclose(stitcher.result(), values, rtol=1e-5)


def test_where_windows_differ_the_one_with_the_nearer_middle_has_more_weight():
    stitcher = Stitcher(1, (4, 6))
    stitcher.add((slice(0, 4), slice(0, 4)), np.zeros((1, 4, 4), dtype=np.float32))
    stitcher.add((slice(0, 4), slice(2, 6)), np.ones((1, 4, 4), dtype=np.float32))
    row = stitcher.result()[0, 0]
    assert row[[0, 1, 4, 5]].tolist() == [0, 0, 1, 1]
    assert 0 < row[2] < 0.5 < row[3] < 1
    assert row[2] + row[3] == pytest.approx(1)
