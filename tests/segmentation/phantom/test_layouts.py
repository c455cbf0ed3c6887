import json

import numpy as np
import pytest
from PIL import Image

from seg_pipeline.segmentation.phantom import LAYOUTS, RECORD, write_example

SMALL = {"num_cases": 1, "days_per_case": 1, "frames_per_series": [3, 3], "size": 64}
FILES = {
    "rle_columns": ["images", "masks.csv"],
    "folders": ["images", "masks"],
    "colours": ["images", "masks"],
    "instances": ["case1_day0_slice_0001", "case1_day0_slice_0002", "case1_day0_slice_0003"],
    "coco": ["annotations.json", "images"],
    "nifti": ["images", "labels"],
    "nnunet": ["dataset.json", "imagesTr", "labelsTr"],
}


@pytest.mark.parametrize("form", LAYOUTS)
def test_each_form_has_its_layout_and_nothing_beside_it(tmp_path, form):
    write_example(tmp_path / "raw", layout=form, **SMALL)
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted([*FILES[form], RECORD])
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_an_example_is_drawn_once_and_again_for_other_settings(tmp_path):
    write_example(tmp_path / "raw", layout="folders", **SMALL)
    first = (tmp_path / "raw/images/case1_day0_slice_0001.png").stat().st_mtime_ns
    write_example(tmp_path / "raw", layout="folders", **SMALL)
    assert (tmp_path / "raw/images/case1_day0_slice_0001.png").stat().st_mtime_ns == first
    write_example(tmp_path / "raw", layout="coco", **SMALL)
    assert json.loads((tmp_path / "raw" / RECORD).read_text())["settings"]["layout"] == "coco"
    assert not (tmp_path / "raw/masks").exists()


def test_data_of_ones_own_is_not_touched(tmp_path):
    (tmp_path / "mine.png").touch()
    with pytest.raises(ValueError, match="is not a phantom's folder"):
        write_example(tmp_path, layout="folders", **SMALL)


def test_an_unknown_form_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"phantom: layout must be one of rle_columns, folders, .*, found 'yolo'"):
        write_example(tmp_path, layout="yolo", **SMALL)


def test_a_mask_with_a_palette_and_one_of_colours_say_the_same(tmp_path):
    for form in ("folders", "colours"):
        write_example(tmp_path / form, layout=form, **SMALL)
    name = "masks/case1_day0_slice_0002.png"
    indexed, coloured = (Image.open(tmp_path / form / name) for form in ("folders", "colours"))
    assert (indexed.mode, coloured.mode) == ("P", "RGB")
    np.testing.assert_array_equal(np.array(indexed.convert("RGB")), np.array(coloured))
