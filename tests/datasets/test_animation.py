import base64
import logging

import cv2
import numpy as np
import pytest
from kedro.io import DatasetError
from PIL import Image, ImageSequence

from seg_pipeline.datasets.animation import AnimationDataset

BROWN, BLUE = (102, 51, 0), (0, 51, 204)


def pictures(number=6) -> np.ndarray:
    """A grey ramp that moves, above a legend of two colours: 40 x 64 pixels."""
    frames = np.zeros((number, 40, 64, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[:30] = np.roll(np.arange(64) * 4, index)[None, :, None]
        frame[5:9, 5 + index] = BROWN
    frames[:, 32:, :20] = BROWN
    frames[:, 32:, 30:50] = BLUE
    return frames


def frames_of(file) -> np.ndarray:
    with Image.open(file) as stored:
        return np.stack([np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(stored)])


def test_a_gif_keeps_frames_order_and_pace(tmp_path):
    file = tmp_path / "deep" / "series.gif"
    dataset = AnimationDataset(filepath=str(file), frames_per_second=5)
    assert not dataset.exists()
    dataset.save(pictures())
    assert dataset.load() == file.read_bytes()
    loaded = frames_of(file)
    assert loaded.shape == (6, 40, 64, 3)
    assert np.abs(loaded.astype(int) - pictures()).mean() < 4
    assert all(np.abs(loaded[index, 6, 5 + index].astype(int) - BROWN).max() < 40 for index in range(6))
    with Image.open(file) as stored:
        assert stored.info["duration"] == 200
        assert stored.info["loop"] == 0
    assert [path.name for path in file.parent.iterdir()] == ["series.gif"]


def test_a_single_picture(tmp_path):
    AnimationDataset(filepath=str(tmp_path / "one.gif")).save(pictures(1))
    assert frames_of(tmp_path / "one.gif").shape == (1, 40, 64, 3)


def test_an_mp4_where_there_is_an_encoder(tmp_path):
    file = tmp_path / "series.mp4"
    dataset = AnimationDataset(filepath=str(file), frames_per_second=5)
    dataset.save(pictures())
    if not dataset.exists():
        pytest.skip("OpenCV has no encoder for MP4 here")
    reader = cv2.VideoCapture(str(file))
    loaded = np.stack([reader.read()[1][..., ::-1] for _ in range(6)])
    assert not reader.read()[0]
    assert np.abs(loaded.astype(int) - pictures()).mean() < 15  # mp4v is lossy
    np.testing.assert_allclose(loaded[0, 36, 40], BLUE, atol=40)  # red and blue in their places
    assert not hasattr(dataset, "preview")


class NoEncoder:
    fourcc = staticmethod(cv2.VideoWriter.fourcc)

    def __init__(self, *given):
        pass

    def isOpened(self):
        return False


def test_without_an_encoder_the_log_says_so_and_no_older_series_stays(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    file = tmp_path / "series.mp4"
    file.write_bytes(b"older")
    monkeypatch.setattr(cv2, "VideoWriter", NoEncoder)
    dataset = AnimationDataset(filepath=str(file))
    dataset.save(pictures())
    assert not dataset.exists()
    assert f"{file} was not written: OpenCV has no MP4 encoder on this machine" in caplog.text
    assert dataset.load() is None


def test_without_a_series_no_older_animation_stays(tmp_path):
    dataset = AnimationDataset(filepath=str(tmp_path / "series.gif"))
    dataset.save(pictures())
    dataset.save(())
    assert not dataset.exists()
    assert dataset.load() is None


def test_kedro_viz_shows_the_gif_as_it_is(tmp_path):
    file = tmp_path / "series.gif"
    dataset = AnimationDataset(filepath=str(file))
    dataset.save(pictures())
    assert base64.b64decode(dataset.preview()) == file.read_bytes()
    annotation = dataset.preview.__annotations__["return"]
    assert getattr(annotation, "__name__", annotation) == "ImagePreview"


def test_other_endings_are_refused():
    with pytest.raises(ValueError, match=r"series.avi: an animation must be saved as .gif or .mp4"):
        AnimationDataset(filepath="series.avi")


@pytest.mark.parametrize(
    "data", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((0, 4, 4, 3), dtype=np.uint8)]
)
def test_other_arrays_are_refused(data, tmp_path):
    with pytest.raises(DatasetError, match=r"needs uint8 and \(T, H, W, 3\), with at least one frame"):
        AnimationDataset(filepath=str(tmp_path / "a.gif")).save(data)
