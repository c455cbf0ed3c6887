import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from seg_pipeline.segmentation.metrics.surface_distances import (
    MAX_PAIRS,
    MaskComparison,
    _both_directions,
    bounding_box,
    compare,
    diagonal,
    distances,
    surface,
)

ISOTROPIC, ANISOTROPIC = (1.0, 1.5, 1.5), (3.0, 1.5, 0.7)


def rectangle(top, left, height, width, shape=(12, 17)):
    mask = np.zeros((1, *shape), dtype=bool)
    mask[0, top : top + height, left : left + width] = True
    return mask


def random_masks(seed, shape):
    """Two smooth shapes that overlap somewhere."""
    rng = np.random.default_rng(seed)
    return [ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > 0.05 for _ in range(2)]


def surface_points(mask, spacing):
    """Pixels that an erosion by the nearest neighbours takes away; outside the array there is nothing."""
    flat = len(mask) == 1
    inner = ndimage.binary_erosion(mask[0])[None] if flat else ndimage.binary_erosion(mask)
    return np.argwhere(mask & ~inner) * spacing


def disc(row, column, radius, shape=(14, 19)):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_a_mask_beside_itself():
    mask = rectangle(2, 3, 4, 6)  # a surface of 2 x 6 + 2 x 2 pixels
    assert compare(mask, mask, spacing=ISOTROPIC, tolerance=0, boundary_width=1) == MaskComparison(16, 16, 32, 32, 0.0)


def test_a_mask_shifted_by_one_pixel():
    """Of 4 x 6 pixels, moved right by one: of 16 surface pixels each 10 lie on the other's surface (5 above, 5 below).

    The 6 others, 4 at the far side and 2 within, are one pixel away. The strips of one pixel share those 10.
    """
    truth, predicted = rectangle(2, 3, 4, 6), rectangle(2, 4, 4, 6)
    spacing = (1.0, 1.0, 1.0)
    assert compare(predicted, truth, spacing=spacing, tolerance=0, boundary_width=1) == MaskComparison(
        10, 22, 20, 32, 1.0
    )
    assert compare(predicted, truth, spacing=spacing, tolerance=1, boundary_width=2) == MaskComparison(
        20, 28, 32, 32, 1.0
    )
    in_mm = compare(predicted, truth, spacing=(1.0, 1.0, 2.5), tolerance=2.4)
    assert (in_mm.surface_near, in_mm.surface_all) == (24, 32)  # two of each six are 1 above or below, now the nearest
    assert in_mm.hd95 == 2.5


def test_where_one_mask_is_empty_the_distance_has_no_end():
    mask = rectangle(2, 3, 4, 6)
    nothing = np.zeros_like(mask)
    for pair in ((mask, nothing), (nothing, mask)):
        found = compare(*pair, spacing=(1.0, 3.0, 4.0), tolerance=99, boundary_width=1)
        assert found == MaskComparison(0, 16, 0, 16, math.inf)
    empty = compare(nothing, nothing, spacing=ISOTROPIC, tolerance=1, boundary_width=1)
    assert empty[:4] == (0, 0, 0, 0)
    assert math.isnan(empty.hd95)


def test_the_edge_of_the_image_is_a_border():
    """All of an image of 12 x 17 beside all but its last column."""
    everything, less = rectangle(0, 0, 12, 17), rectangle(0, 0, 12, 16)
    assert surface(everything, volume=False).sum() == 2 * 17 + 2 * 10
    found = compare(less, everything, spacing=(1.0, 1.0, 1.0), tolerance=0, boundary_width=1)
    both = 2 * 16 + 10  # the rows above and below, and the column to the left
    assert found[:4] == (both, (2 * 17 + 2 * 10) + (2 * 16 + 2 * 10) - both, 2 * both, 54 + 52)


def test_a_volume_by_hand():
    """A box of 2 x 3 x 4 one frame too low, frames 3 apart, the image's pixels 1.5 and 0.7."""
    truth, predicted = np.zeros((2, 5, 6, 7), dtype=bool)
    truth[1:3, 1:4, 2:6] = True
    predicted[2:4, 1:4, 2:6] = True
    found = compare(predicted, truth, spacing=ANISOTROPIC, tolerance=2.9)
    # Every voxel of two frames is surface. The shared frame lies on the other's; of the other, 3 mm away.
    assert found[2:] == (24, 48, pytest.approx(3))
    assert compare(predicted, truth, spacing=ANISOTROPIC, tolerance=3).surface_near == 48


@pytest.mark.parametrize("frames", [slice(2, 3), slice(2, 4), slice(0, 1)])
@pytest.mark.parametrize("cropped", [False, True])
def test_a_structure_in_one_frame_of_a_volume_has_its_surface(frames, cropped):
    """Every pixel of a disc one frame thick borders on the outside, so all 29 and 49 of them are surface."""
    predicted, truth = np.zeros((2, 5, 14, 19), dtype=bool)
    predicted[frames], truth[frames] = disc(6, 7, 3), disc(6, 11, 4)
    pairs = cdist(surface_points(predicted, ANISOTROPIC), surface_points(truth, ANISOTROPIC))
    ways = pairs.min(1), pairs.min(0)
    part = [mask[frames] if cropped else mask for mask in (predicted, truth)]
    found = compare(*part, spacing=ANISOTROPIC, tolerance=2.0, volume=True)
    assert found.surface_all == sum(map(len, ways)) == (frames.stop - frames.start) * (29 + 49)
    assert found.surface_near == sum((way <= 2.0 + 1e-5).sum() for way in ways)
    assert found.hd95 == pytest.approx(max(np.percentile(way, 95) for way in ways), rel=1e-5)
    if not cropped:
        assert compare(predicted, truth, spacing=ANISOTROPIC, tolerance=2.0) == found


def test_a_tolerance_that_is_just_reached_is_kept():
    truth, predicted = rectangle(2, 3, 1, 1), rectangle(2, 6, 1, 1)
    for step in (0.1, 0.3, 0.7, 1.1):
        assert compare(predicted, truth, spacing=(1.0, step, step), tolerance=3 * step).surface_near == 2
        assert compare(predicted, truth, spacing=(1.0, 1.0, step), tolerance=3 * step).surface_near == 2


@pytest.mark.parametrize("spacing", [ISOTROPIC, ANISOTROPIC])
@pytest.mark.parametrize("shape", [(1, 13, 18), (6, 9, 7)])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_distances_are_those_of_all_pairs_of_points(shape, spacing, seed):
    predicted, truth = random_masks(seed, shape)
    if not (predicted.any() and truth.any()):
        return
    found = compare(predicted, truth, spacing=spacing, tolerance=2.0)
    pairs = cdist(surface_points(predicted, spacing), surface_points(truth, spacing))
    ways = pairs.min(1), pairs.min(0)
    assert found.hd95 == pytest.approx(max(np.percentile(way, 95) for way in ways), rel=1e-5)
    assert found.surface_all == sum(map(len, ways))
    assert found.surface_near == sum((way <= 2.0 + 1e-5).sum() for way in ways)


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_boundaries_are_pixels_near_the_outside(seed, width):
    """By a chessboard distance to the outside, as the paper has it."""
    strips = []
    for mask in (masks := random_masks(seed, (1, 13, 18))):
        away = ndimage.distance_transform_cdt(np.pad(mask[0], 1), "chessboard")[1:-1, 1:-1]
        strips.append((away > 0) & (away <= width))
    found = compare(*masks, spacing=ISOTROPIC, tolerance=1, boundary_width=width)
    assert found[:2] == ((strips[0] & strips[1]).sum(), (strips[0] | strips[1]).sum())


@pytest.mark.parametrize(
    ("shape", "spacing"), [((1, 40, 53), ISOTROPIC), ((1, 40, 53), ANISOTROPIC), ((7, 20, 23), ANISOTROPIC)]
)
def test_hd95_and_surface_dice_are_monais(shape, spacing):
    metrics = pytest.importorskip("monai.metrics")
    import torch

    for seed in range(4):
        predicted, truth = random_masks(seed, shape)
        flat = shape[0] == 1
        pair = [torch.from_numpy(mask[0] if flat else mask)[None, None].float() for mask in (predicted, truth)]
        found = compare(predicted, truth, spacing=spacing, tolerance=2.0)
        steps = list(spacing[1:] if flat else spacing)
        hd95 = metrics.compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=steps)
        assert found.hd95 == pytest.approx(hd95.item(), rel=1e-5)
        dice = metrics.compute_surface_dice(*pair, class_thresholds=[2.0], include_background=True, spacing=steps)
        assert found.surface_near / found.surface_all == pytest.approx(dice.item())


def test_the_box_holds_all_and_no_more():
    mask = np.zeros((4, 6, 9), dtype=bool)
    mask[1, 2, 7] = mask[2, 4, 3] = True
    assert bounding_box(mask) == (slice(1, 3), slice(2, 5), slice(3, 8))
    assert bounding_box(np.zeros_like(mask)) is None


def test_the_diagonal_of_a_volume_takes_its_depth_in():
    assert diagonal((1, 30, 40), (7.0, 0.1, 0.1)) == pytest.approx(5)
    assert diagonal((10, 30, 40), (0.5, 0.0, 0.3)) == pytest.approx(13)


def test_distances_skip_frames_without_target():
    points, target = np.zeros((2, 4, 3, 5), dtype=bool)
    points[0, 1, 1] = target[3, 1, 1] = True
    assert distances(points, target, (2.0, 1.0, 1.0)).tolist() == [6]


@pytest.mark.parametrize("threads", [1, 4])
def test_distances_are_the_same_for_any_number_of_threads(threads):
    """With one thread OpenCV takes another implementation, which errs in the last digit."""
    target = np.zeros((1, 160, 150), dtype=bool)
    target[0, 40, 30] = True
    away = np.argwhere(~target[0]) - (40, 30)
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        found = distances(~target, target, (1.0, 1.0, 1.0))
    finally:
        cv2.setNumThreads(before)
    exact = np.sqrt((away**2).sum(1).astype(np.float32))
    np.testing.assert_array_equal(found, np.sqrt(exact**2))


@pytest.mark.parametrize("step", [1.0, 0.7])
def test_products_of_coordinates_give_the_distances_of_distance_maps(step):
    one, other = (surface(mask[None], volume=False) for mask in random_masks(3, (120, 190)))
    assert one.sum() * other.sum() > MAX_PAIRS
    ways = _both_directions(one, other, (1.0, step, step))
    maps = distances(one, other, (1.0, step, step)), distances(other, one, (1.0, step, step))
    for way, expected in zip(ways, maps, strict=True):
        np.testing.assert_array_equal(way, expected)
