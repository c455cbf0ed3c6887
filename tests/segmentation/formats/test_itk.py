"""Volumes whose voxels are in files of their own."""

import numpy as np
import pytest

from seg_pipeline.segmentation.formats.itk import data_files, read_itk
from seg_pipeline.segmentation.formats.volumes import Case, Cutting, index_volumes

simpleitk = pytest.importorskip("SimpleITK")
VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def save(path, values=VALUES):
    simpleitk.WriteImage(simpleitk.GetImageFromArray(values), str(path))
    return path


@pytest.mark.parametrize("name", ["v.mhd", "v.nhdr"])
def test_detached_voxels_are_read_and_their_loss_is_named(tmp_path, name):
    path = save(tmp_path / name)
    assert data_files(path) == [tmp_path / "v.raw"]
    np.testing.assert_array_equal(read_itk(path)[0].T, VALUES)
    (tmp_path / "v.raw").write_bytes(VALUES.tobytes()[:-1])
    with pytest.raises(ValueError, match=rf"{name}: not a NRRD or MetaImage file, or truncated or damaged"):
        read_itk(path)
    (tmp_path / "v.raw").unlink()
    with pytest.raises(ValueError, match=rf"{name}: its voxels are in v\.raw, which is not there"):
        read_itk(path)


def test_a_case_is_cut_again_if_its_voxels_change(tmp_path):
    image, labels = save(tmp_path / "v.mhd"), save(tmp_path / "label.nhdr", VALUES % 2)
    case = Case("anna", (image,), labels)

    def masks():
        return index_volumes([case], tmp_path / "slices", Cutting())[1]["mask"].tolist()

    first = masks()
    (tmp_path / "label.raw").write_bytes((1 - VALUES % 2).astype(np.int16).tobytes())
    assert masks() != first


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.mhd", "DimSize = 2 2\nElementDataFile = LOCAL\n", []),
        ("a.mhd", "DimSize = 2 2 2\nElementDataFile = LIST\nx 1.raw\ny.raw\n", ["x 1.raw", "y.raw"]),
        ("a.mhd", "ElementDataFile = s_%03d.raw 1 2 1\n", ["s_001.raw", "s_002.raw"]),
        ("a.nhdr", "NRRD0004\nencoding: gzip\ndatafile: v.raw.gz\n", ["v.raw.gz"]),
        ("a.nhdr", "NRRD0004\ndata file: LIST\nx 1.raw\n", ["x 1.raw"]),
        ("a.mha", "ElementDataFile = v.raw\n", []),
        ("a.mhd", "nothing", []),
    ],
)
def test_the_files_that_a_header_names(tmp_path, name, text, expected):
    for other in ("s_001.raw", "s_002.raw", "s_x.raw"):
        (tmp_path / other).touch()
    (tmp_path / name).write_text(text)
    assert data_files(tmp_path / name) == [tmp_path / one for one in expected]
