import builtins
import errno
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from seg_pipeline.segmentation.images import decoding
from seg_pipeline.segmentation.images.addresses import format_address
from seg_pipeline.segmentation.images.decoding import decode_image, read_image, read_oriented, read_size, read_values
from seg_pipeline.segmentation.images.intensities import percentiles, scale_values, to_8bit, to_grey, to_rgb8
from seg_pipeline.segmentation.settings.reading import ReadSettings

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


@pytest.mark.parametrize("ending", ["png", "gif", "tif"])
def test_a_mask_whose_palette_has_only_greys_gives_the_greys(tmp_path, ending):
    mask = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    mask.putpalette([255, 255, 255, 0, 0, 0, 90, 90, 90])
    mask.save(tmp_path / f"p.{ending}", optimize=False)
    assert read_values(tmp_path / f"p.{ending}").tolist() == [[255, 0, 90]]


def test_a_mask_whose_palette_does_not_tell_its_values_apart_gives_indices(tmp_path):
    mask = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    mask.putpalette([0, 0, 0, 0, 0, 0, 9, 9, 9])
    mask.save(tmp_path / "p.png")
    assert read_values(tmp_path / "p.png").tolist() == [[0, 1, 2]]


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


CORNERS = np.kron(np.array([[20, 90, 90], [160, 90, 230]], dtype=np.uint8), np.ones((16, 16), dtype=np.uint8))


TURN = Image.Transpose
TURNS = [TURN.FLIP_LEFT_RIGHT, TURN.ROTATE_180, TURN.FLIP_TOP_BOTTOM]
TURNS += [TURN.TRANSPOSE, TURN.ROTATE_270, TURN.TRANSVERSE, TURN.ROTATE_90]


def tagged(path, orientation, image=CORNERS, **how):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(path, exif=exif, **how)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_a_photo_is_turned_as_its_exif_tag_says(tmp_path, ending, orientation):
    path = tagged(tmp_path / f"a.{ending}", orientation, **({"lossless": True} if ending == "webp" else {}))
    shown = Image.fromarray(CORNERS)
    shown = np.array(shown.transpose(TURNS[orientation - 2]) if 2 <= orientation <= 8 else shown)
    for settings, expected in (({}, shown), ({"orientation": "keep"}, CORNERS)):
        found = read_oriented(format_address(path, ReadSettings(**settings)))
        grey = found.pixels if found.pixels.ndim == 2 else found.pixels[..., 1]
        assert np.abs(grey.astype(int) - expected).max() <= 4
        assert read_size(format_address(path, ReadSettings(**settings))) == expected.shape
        assert found.orientation == (orientation % 9 or 1 if not settings else 1)
        assert found.stated == (orientation % 9 or 1)


def test_a_quarter_turn_by_hand(tmp_path):
    path = tagged(tmp_path / "a.jpg", 6, quality=95)
    assert np.abs(read_image(path)[8::16, 8::16].astype(int) - [[160, 20], [90, 90], [230, 90]]).max() <= 2


def test_turned_photos_can_be_refused(tmp_path):
    for orientation in (1, 6):
        tagged(tmp_path / f"{orientation}.jpg", orientation)
    refuse = ReadSettings(orientation="refuse")
    assert read_image(format_address(tmp_path / "1.jpg", refuse)).shape == (32, 48)
    with pytest.raises(ValueError, match=r"6\.jpg: has the EXIF orientation 6, which `dataset.reading.orient"):
        read_image(format_address(tmp_path / "6.jpg", refuse))


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_a_jpeg_may_be_followed_by_a_film_but_not_be_cut_off(tmp_path, how):
    noise = np.random.default_rng(0).integers(0, 255, (80, 90), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=95, **how)
    content = (tmp_path / "a.jpg").read_bytes()
    expected = read_image(tmp_path / "a.jpg")
    for trailer in (b"\xff\xda\0\x08film\xff\xda", b"\0" * 50, np.random.default_rng(1).bytes(400_000)):
        (tmp_path / "a.jpg").write_bytes(content + trailer)
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)
    for keep in (-2, -100, len(content) // 2, 700):
        (tmp_path / "a.jpg").write_bytes(content[:keep])
        with pytest.raises(ValueError, match=r"a\.jpg: truncated or damaged, cannot be decoded"):
            read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", ["webp", "gif", "WEBP", "GIF", "PNG", "TIF"])
def test_other_formats_and_endings_in_upper_case(tmp_path, ending):
    colour = np.kron(stored(8, 3), np.ones((16, 16, 1), dtype=np.uint8))
    how = {"lossless": True} if ending.lower() == "webp" else {}
    Image.fromarray(colour).save(tmp_path / f"a.{ending}", **how)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}"), colour)
    mask = Image.fromarray(np.array([[0, 3, 1], [2, 0, 3]], dtype=np.uint8))
    if ending.lower() != "webp":
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        mask.save(tmp_path / f"m.{ending}", optimize=False)
        assert read_values(tmp_path / f"m.{ending}").tolist() == [[0, 3, 1], [2, 0, 3]]


def test_a_moving_gif_is_refused(tmp_path):
    pages = [Image.fromarray(CORNERS), Image.fromarray(255 - CORNERS)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"a\.gif: holds 2 pages"):
        read_image(tmp_path / "a.gif")


def test_the_limit_of_pixels_is_a_setting(tmp_path):
    path = write(tmp_path / "a.png", GREY)
    assert read_image(format_address(path, ReadSettings(max_pixels=6))).shape == (2, 3)
    with pytest.raises(ValueError, match=r"a\.png: 2 x 3 pixels are more than the limit of 5 \(`dataset.reading"):
        read_image(format_address(path, ReadSettings(max_pixels=5)))


@pytest.mark.fault(
    scenario="I/O error while an image is read",
    command="kedro run --pipeline data_processing, seg-pipeline predict",
    outcome="tried again; never reported as damage",
    review="data 4",
)
@pytest.mark.parametrize("reader", [read_image, read_size, read_values])
@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_an_io_error_is_tried_again_and_never_called_damage(tmp_path, monkeypatch, reader, ending):
    Image.fromarray(CORNERS).save(tmp_path / f"a.{ending}")
    waits, failures = [], [OSError(errno.EIO, "Input/output error")] * 2
    monkeypatch.setattr(decoding.time, "sleep", waits.append)

    class Disk(io.FileIO):
        def readinto(self, buffer):
            if failures:
                raise failures.pop()
            return super().readinto(buffer)

    monkeypatch.setattr(builtins, "open", lambda path, _: io.BufferedReader(Disk(path)))
    reader(tmp_path / f"a.{ending}")
    assert waits == [0.1, 0.5]
    failures = [OSError(errno.EIO, "Input/output error")] * 9
    with pytest.raises(OSError, match="Input/output error"):
        reader(tmp_path / f"a.{ending}")


def test_a_folder_is_not_an_image(tmp_path):
    with pytest.raises(ValueError, match=r": a folder, not an image"):
        read_image(tmp_path)


@pytest.mark.parametrize(("mode", "colour"), [("LA", 0), ("RGBA", (0, 0, 0))])
def test_a_mask_whose_shapes_are_in_its_alpha_is_refused(tmp_path, mode, colour):
    black = Image.new(mode[:-1], (3, 2), colour)
    black.putalpha(Image.fromarray(np.array([[0, 255, 0], [0, 0, 255]], dtype=np.uint8)))
    black.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: its colours are all equal and its shapes in the alpha channel"):
        read_values(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_mask_with_alpha_gives_its_values(tmp_path, mode):
    grey = Image.fromarray(np.array([[0, 255, 7]], dtype=np.uint8)).convert(mode)
    grey.putalpha(Image.fromarray(np.array([[0, 255, 255]], dtype=np.uint8)))
    grey.save(tmp_path / "a.png")
    values = read_values(tmp_path / "a.png")
    assert (values if values.ndim == 2 else values[..., 2]).tolist() == [[0, 255, 7]]


@pytest.mark.fault(
    scenario="mask file cut short",
    command="kedro run --pipeline data_processing",
    outcome="a finding",
    review="data 12",
)
@pytest.mark.parametrize("keep", [20, 40, 60, 90])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_cut_anywhere_is_refused(tmp_path, mode, keep):
    Image.fromarray(CORNERS).convert(mode).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a\.png: (truncated or damaged|not an image)"):
        read_values(tmp_path / "a.png")


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


def progressive(*, scans: int) -> bytes:
    """A progressive JPEG of 64 x 64 pixels whose last scan is repeated until it has ``scans``."""
    file = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(file, "JPEG", progressive=True)
    data, marker = file.getvalue(), b"\xff\xda"
    last = data[data.rindex(marker) : -2]
    return data[:-2] + last * (scans - data.count(marker)) + data[-2:]


@pytest.mark.fault(
    scenario="JPEG of very many scans",
    command="kedro run --pipeline data_processing, seg-pipeline predict, seg-pipeline serve",
    outcome="refused before it is decoded",
    review="serving 2",
)
def test_a_jpeg_of_more_scans_than_anybody_writes_is_refused_before_it_is_decoded(monkeypatch):
    assert decode_image(progressive(scans=100), name="a.jpg").shape == (64, 64)
    monkeypatch.setattr(cv2, "imdecode", None)  # not called
    with pytest.raises(ValueError, match=r"a\.jpg: truncated or damaged, cannot be decoded"):
        decode_image(progressive(scans=101), name="a.jpg")


def test_a_file_that_is_no_image_is_not_waited_for(tmp_path, monkeypatch):
    """PIL raises OSErrors without a number about it, which are no errors of the disk: each took 0.6 s."""
    monkeypatch.setattr(decoding.time, "sleep", lambda _: pytest.fail("read it again"))
    (tmp_path / "a.png").write_bytes(b"II*\0no image")
    assert decoding.count_pages(tmp_path / "a.png") == 1
    assert decoding.read_orientation(tmp_path / "a.png") == 1
    assert decoding.count_pages(tmp_path / "gone.png") == 1
