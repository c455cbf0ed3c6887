import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.exploration.animation import LINE_PIXELS, draw_series
from seg_pipeline.segmentation.plotting import class_colours

TITLE = LINE_PIXELS + 2


def frames_of(manifest, **settings):
    rows = manifest.head(2).assign(series="case1", frame=[7, 12])
    return draw_series(rows, **{"max_side": 96, **settings})


def test_pictures_have_title_image_and_legend(manifest):
    """40 x 48 pixels at 96 on the longer side."""
    frames = frames_of(manifest)
    assert frames.dtype == np.uint8
    assert frames.shape[0] == 2
    assert frames.shape[2:] == (96, 3)
    assert frames.shape[1] % 2 == 0
    body = frames[:, TITLE : TITLE + 80]
    assert body.reshape(2, -1).any(axis=1).all()
    assert (frames[0, :TITLE] != frames[1, :TITLE]).any()  # the frame number
    np.testing.assert_array_equal(frames[0, TITLE + 80 :], frames[1, TITLE + 80 :])


def test_outlines_and_legend_have_the_colours_of_the_classes(manifest):
    """scan00 shows neither class, scan01 both."""
    empty, full = frames_of(manifest)
    for colour in class_colours(2):
        assert (full[TITLE : TITLE + 80] == colour).all(axis=2).sum() > 40
        assert not (empty[TITLE : TITLE + 80] == colour).all(axis=2).any()
        assert (empty[TITLE + 80 :] == colour).all(axis=2).sum() >= 80


def test_a_class_keeps_its_colour_where_another_never_occurs(manifest):
    rows = manifest.assign(area_box=0)
    foot = frames_of(rows)[1, TITLE + 80 :]
    assert not (foot == class_colours(2)[0]).all(axis=2).any()
    assert (foot == class_colours(2)[1]).all(axis=2).any()


def test_other_sizes_are_fitted_in(manifest, tmp_path):
    tall = np.full((90, 20), 200, dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "tall.png"), tall)
    row = manifest.iloc[1].to_dict()
    row |= {"path": str(tmp_path / "tall.png"), "height": 90, "width": 20, "mask_box": "", "mask_disc": ""}
    row |= {"area_box": 0, "area_disc": 0}
    rows = pd.concat([manifest.head(1), pd.DataFrame([row])]).assign(series="s", frame=[1, 2])
    body = draw_series(rows, max_side=96)[1, TITLE : TITLE + 80]
    columns = np.flatnonzero(body.any(axis=(0, 2)))
    assert columns[0] == (96 - 18) // 2
    assert len(columns) == 18  # 20 x 80 / 90


def test_of_very_many_classes_the_legend_names_the_first(manifest):
    def frames_with(number):
        row = manifest.iloc[1].to_dict()
        for index in range(number):
            row |= {f"mask_c{index}": row["mask_box"], f"area_c{index}": row["area_box"]}
        return draw_series(pd.DataFrame([row]), max_side=96)

    few, many = frames_with(30), frames_with(300)
    np.testing.assert_array_equal(few[0, TITLE + 80 :], many[0, TITLE + 80 :])
    assert frames_with(5).shape[1] < few.shape[1]


def test_a_long_name_stays_in_its_line(manifest):
    rows = manifest.head(1).assign(series="a_very_long_name_of_a_series_that_does_not_fit", frame=[3])
    title = draw_series(rows, max_side=96)[0, :TITLE]
    assert title[:, :-2].any()
    assert not title[:, -2:].any()
