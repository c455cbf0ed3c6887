import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.exploration import pixel_statistics
from seg_pipeline.segmentation.images.masks import encode_rle


def row_of(folder, name, image, mask, group="g") -> dict:
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), image)
    return {
        "path": str(path),
        "group": group,
        "height": image.shape[0],
        "width": image.shape[1],
        "intensity_max": int(image.max()),
        "mask_box": encode_rle(mask, order="C"),
        "area_box": int(mask.sum()),
        "mask_disc": "",
        "area_disc": 0,
        "ignore": "",
    }


@pytest.fixture
def rows(tmp_path):
    """Two images of 2 x 4 pixels: 0 to 7, and 1000 to 1007 of 16 bits; the box is the last column."""
    mask = np.zeros((2, 4), dtype=bool)
    mask[:, 3] = True
    values = np.arange(8).reshape(2, 4)
    first = row_of(tmp_path, "a", values.astype(np.uint8), mask)
    return pd.DataFrame([first, row_of(tmp_path, "b", (values + 1000).astype(np.uint16), mask, group="h")])


def test_intensities_by_hand(rows):
    table = pixel_statistics.measure_intensities(rows, ["box", "disc"]).set_index(["kind", "name"])
    assert list(table.index) == [("all", "all pixels"), ("class", "box"), ("group", "g"), ("group", "h")]
    assert table.loc[("all", "all pixels"), ["images", "pixels", "p5", "p50", "p95"]].tolist() == [2, 16, 0, 7, 1007]
    assert table.loc[("class", "box"), ["images", "pixels", "p5", "p25", "p50", "p95"]].tolist() == [
        2,
        4,
        3,
        3,
        7,
        1007,
    ]
    assert table.loc[("group", "h"), ["images", "pixels", "p5", "p50"]].tolist() == [1, 8, 1000, 1003]


def test_pixels_of_unknown_truth_are_of_no_class(rows):
    rows.loc[0, "ignore"] = "4 1"  # the box's pixel of the first row, value 3
    table = pixel_statistics.measure_intensities(rows.iloc[:1], ["box"]).set_index("kind")
    assert table.loc["class", ["pixels", "p5", "p95"]].tolist() == [1, 7, 7]
    assert table.loc["all", "pixels"] == 8


def test_colour_counts_as_the_mean_of_its_channels(tmp_path):
    image = np.zeros((2, 4, 3), dtype=np.uint8)
    image[..., 2] = 90
    row = row_of(tmp_path, "c", image, np.ones((2, 4), dtype=bool))
    assert pixel_statistics.measure_intensities(pd.DataFrame([row]), ["box"])["p50"].tolist() == [30, 30, 30]


def test_places_by_hand(rows, tmp_path):
    """Three images, of which one, of twice the size, shows the box on the left instead."""
    mask = np.zeros((4, 8), dtype=bool)
    mask[:, :2] = True
    third = row_of(tmp_path, "d", np.zeros((4, 8), dtype=np.uint8), mask)
    places = pixel_statistics.location_maps(pd.concat([rows, pd.DataFrame([third])]), ["disc", "box"])
    assert places.shape == (2, 24, 48)
    assert not places[0].any()
    np.testing.assert_allclose(places[1, :, 36:], 200 / 3, rtol=1e-5)
    np.testing.assert_allclose(places[1, :, :12], 100 / 3, rtol=1e-5)
    assert not places[1, :, 13:35].any()
