import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from seg_pipeline.segmentation.images.decoding import (
    percentiles,
    read_image,
    read_size,
    read_values,
    scale_values,
    to_8bit,
    to_grey,
    to_rgb8,
)

GREY = np.arange(6, dtype=np.uint16).reshape(2, 3) * 1000


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


def test_16_bit_grey_keeps_its_values(tmp_path):
    path = write(tmp_path / "a.png", GREY)
    assert read_size(path) == (2, 3)
    np.testing.assert_array_equal(read_image(path), GREY)
    assert read_image(path).dtype == np.uint16


def test_colour_is_red_green_blue_and_alpha_is_dropped(tmp_path):
    blue_first = np.zeros((2, 3, 4), dtype=np.uint8)
    blue_first[..., 0], blue_first[..., 2], blue_first[..., 3] = 10, 200, 50
    for image in (blue_first, blue_first[..., :3]):
        read = read_image(write(tmp_path / "b.png", image))
        assert read.shape == (2, 3, 3)
        assert read[0, 0].tolist() == [200, 0, 10]


def test_a_mask_with_a_palette_gives_its_indices(tmp_path):
    mask = Image.fromarray(np.array([[0, 3, 1], [2, 0, 3]], dtype=np.uint8))
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    mask.save(tmp_path / "p.png")
    assert read_values(tmp_path / "p.png").tolist() == [[0, 3, 1], [2, 0, 3]]
    assert read_image(tmp_path / "p.png").ndim == 3  # its colours


def test_a_truncated_mask_with_a_palette_is_refused(tmp_path):
    mask = Image.fromarray(np.random.default_rng(0).integers(0, 4, (90, 70), dtype=np.uint8))
    mask.putpalette(list(range(12)))
    mask.save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"half\.png: truncated or damaged"):
        read_values(tmp_path / "half.png")


def test_a_grey_mask_gives_its_values(tmp_path):
    np.testing.assert_array_equal(read_values(write(tmp_path / "g.png", GREY)), GREY)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "c.png", np.random.default_rng(0).integers(0, 255, (50, 60), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"c\.png: truncated or damaged, cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize(("content", "name"), [(b"", "empty.png"), (b"hello", "text.png")])
def test_what_is_no_image_is_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: not an image, or its header is damaged"):
        read_image(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("side", [8_000, 12_000, 40_000])
def test_a_small_file_that_claims_to_be_huge_is_not_decoded(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = b"IHDR" + header
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0" * 64)
    with pytest.raises(ValueError, match=r"bomb\.png: "):
        read_size(tmp_path / "bomb.png")


def test_window_maps_percentiles_to_black_and_white():
    image = np.array([[0, 100, 180, 300, 400]], dtype=np.uint16)
    grey = to_rgb8(image, window=(25, 75))  # 100 and 300
    assert grey.shape == (1, 5, 3)
    assert grey[0, :, 0].tolist() == [0, 0, 102, 255, 255]


def test_a_blank_image_becomes_black():
    assert not to_rgb8(np.full((2, 2), 700, dtype=np.uint16), window=(1, 99)).any()


def test_without_window_8_bits_stay_and_16_are_shifted():
    assert to_rgb8(np.array([[7, 200]], dtype=np.uint8), window=None)[0, :, 1].tolist() == [7, 200]
    assert to_rgb8(np.array([[256, 65535]], dtype=np.uint16), window=None)[0, :, 1].tolist() == [1, 255]


def test_values_are_scaled_evenly_and_cut_off():
    values = np.array([[0, 10, 11, 12], [110, 111, 200, 65535]], dtype=np.uint16)
    assert scale_values(values, 10, 112).tolist() == [[0, 0, 2, 5], [250, 252, 255, 255]]  # 2.5 a step
    assert scale_values(values[:, :2].astype(np.uint8), -5.5, 249.5).tolist() == [[6, 16], [116, 116]]
    assert not scale_values(values, 7, 7).any()


def test_grey_of_colour_is_its_brightness():
    colour = np.array([[[100, 0, 0], [0, 100, 0], [0, 0, 100], [77, 77, 77]]], dtype=np.uint8)
    assert to_grey(colour).tolist() == [[30, 59, 11, 77]]
    assert to_grey(colour.astype(np.uint16) * 256).dtype == np.uint16
    assert to_grey(GREY) is GREY


def test_of_16_bits_the_upper_8_are_kept():
    assert to_8bit(np.array([[255, 256, 65535]], dtype=np.uint16)).tolist() == [[0, 1, 255]]
    assert to_8bit(np.array([[7]], dtype=np.uint8)).tolist() == [[7]]


RGBA = np.stack([np.full((2, 3), value) for value in (200, 130, 3, 50)], axis=-1)
RGBA[0, 1, :3] = (1, 2, 255)


def stored(depth, channels):
    """Values (2, 3) or (2, 3, channels) of 8 or 16 bits, the low byte used."""
    values = RGBA[..., 0] if channels == 1 else RGBA[..., :channels]
    return values.astype(np.uint8) if depth == 8 else (values * 257 - 20).astype(np.uint16)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_rgb_and_rgba_keep_every_bit(tmp_path, ending, depth, channels):
    values = stored(depth, channels)
    blue_first = values if channels == 1 else values[..., [2, 1, 0, 3][:channels]]
    read = read_image(write(tmp_path / f"a.{ending}", blue_first))
    np.testing.assert_array_equal(read, values if channels == 1 else values[..., :3])
    assert read.dtype == (np.uint8 if depth == 8 else np.uint16)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_compressed_tiff_of_another_writer(tmp_path, compression, channels):
    """Alpha must not be multiplied into the colours, as OpenCV does for TIFF of 8 bits."""
    values = stored(8, channels)
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values if channels == 1 else values[..., :3])


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_its_values_but_for_its_own_loss(tmp_path, channels):
    values = np.kron(stored(8, 3)[..., :channels], np.ones((16, 16, 1), dtype=np.uint8))
    Image.fromarray(values if channels == 3 else values[..., 0]).save(tmp_path / "a.jpg", quality=95)
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == (32, 48, 3)[: 3 if channels == 3 else 2]
    middles = read.reshape(values.shape)[8::16, 8::16].astype(int)  # colours blur where blocks meet
    assert np.abs(middles - stored(8, 3)[..., :channels]).max() <= 3


def test_a_photo_is_not_turned_as_its_exif_tag_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.zeros((16, 32, 3), dtype=np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (16, 32, 3) == (*read_size(tmp_path / "a.jpg"), 3)


def test_black_and_white_is_0_and_255(tmp_path):
    Image.fromarray(np.array([[False, True, True]])).save(tmp_path / "a.png")
    assert read_values(tmp_path / "a.png").tolist() == [[0, 255, 255]]


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int32])
def test_other_pixels_than_8_and_16_bits_are_refused(tmp_path, dtype):
    path = write(tmp_path / "a.tif", np.array([[1, 2, 3]], dtype=dtype))
    with pytest.raises(ValueError, match=rf"a\.tif: pixels are {np.dtype(dtype)}, expected uint8 or uint16"):
        read_image(path)


def test_a_tiff_of_several_pages_is_refused(tmp_path):
    page = Image.fromarray(stored(8, 1))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(ValueError, match=r"a\.tif: holds 2 pages, of which only the first would be read"):
        read_image(tmp_path / "a.tif")


def test_a_truncated_tiff_with_alpha_is_refused(tmp_path):
    Image.fromarray(np.kron(stored(8, 4), np.ones((20, 20, 1), dtype=np.uint8))).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:4000])
    with pytest.raises(ValueError, match=r"a\.tif: "):
        read_image(tmp_path / "a.tif")


def test_16_bit_colour_is_shown_by_its_upper_8_bits_or_its_window():
    image = np.array([[[256, 512, 65535], [0, 0, 0]]], dtype=np.uint16)
    assert to_rgb8(image, window=None)[0, 0].tolist() == [1, 2, 255]
    assert to_rgb8(image, window=(0, 100))[0, 0].tolist() == [1, 2, 255]
    assert to_rgb8(image // 256, window=(0, 100))[0, 0].tolist() == [1, 2, 255]  # where the shift leaves black


@given(
    values=arrays(st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(1, 5), st.integers(1, 7))),
    shares=st.tuples(st.floats(0, 100), st.floats(0, 100)),
)
def test_percentiles_are_numpys_to_the_last_bit(values, shares):
    assert percentiles(values, shares) == tuple(np.percentile(values, shares))


def test_percentiles_by_hand():
    assert percentiles(np.array([[0, 10, 20], [40, 30, 50]], dtype=np.uint8), (10, 90)) == (5, 45)  # ranks 0.5, 4.5
