import numpy as np
import pytest

from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.encoding import write_png


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3)])
def test_what_is_written_is_read_back_from_any_name(tmp_path, shape, dtype, monkeypatch):
    monkeypatch.setattr("cv2.imwrite", lambda *_: pytest.fail("cannot write such a name on Windows"))
    image = np.arange(np.prod(shape), dtype=dtype).reshape(shape) * 9
    write_png(tmp_path / "größe.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "größe.png"), image)
    with pytest.raises(FileNotFoundError):
        write_png(tmp_path / "none" / "a.png", image)
