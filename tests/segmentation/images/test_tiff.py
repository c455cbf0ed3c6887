"""TIFF files of every common kind, written by tifffile, with values known to the pixel."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.runs.fuzz.workers import mutant

from seg_pipeline.segmentation.images import tiff
from seg_pipeline.segmentation.images.addresses import format_address
from seg_pipeline.segmentation.images.decoding import decode_image, read_image, read_size, read_spacing, read_values
from seg_pipeline.segmentation.parallel.apart import ProcessDiedError
from seg_pipeline.segmentation.settings.reading import ReadSettings

GREY = np.array([[0, 1, 70], [200, 254, 255]], dtype=np.uint8)
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
ALPHA = np.full((2, 3, 1), 9, dtype=np.uint8)
GREY16, COLOUR16 = GREY.astype(np.uint16) * 256 + 3, COLOUR.astype(np.uint16) * 256 + 3
BANDS = np.arange(30, dtype=np.uint16).reshape(2, 3, 5) * 1000


def wide(values):
    """As rows and columns large enough for tiles and chroma blocks."""
    return np.kron(values, np.ones((24, 24) + (1,) * (values.ndim - 2), dtype=values.dtype))


def read(path, image, settings=None, **how):
    tifffile.imwrite(path, image, **how)
    return read_image(format_address(path, settings or ReadSettings()))


@pytest.mark.parametrize("how", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"compression": "lzw"}, {"tile": (32, 32)}])
@pytest.mark.parametrize("image", [GREY, GREY16, COLOUR, COLOUR16], ids=["grey", "grey16", "colour", "colour16"])
def test_grey_and_colour_of_8_and_16_bits(tmp_path, image, how):
    found = read(tmp_path / "a.tif", wide(image), **how)
    np.testing.assert_array_equal(found, wide(image))
    assert found.dtype == image.dtype  # in the machine's byte order
    assert read_size(tmp_path / "a.tif") == (48, 72)


@pytest.mark.parametrize("image", [COLOUR, COLOUR16], ids=["8", "16"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_planes_one_after_another(tmp_path, image, bigtiff):
    planes = np.moveaxis(image, -1, 0)
    found = read(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", bigtiff=bigtiff)
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_alpha_is_left_out_and_not_multiplied_into_the_colours(tmp_path, bigtiff, kind):
    image = np.concatenate([COLOUR, ALPHA], axis=-1)
    found = read(tmp_path / "a.tif", image, photometric="rgb", extrasamples=[kind], bigtiff=bigtiff)
    np.testing.assert_array_equal(found, COLOUR)
    grey = np.concatenate([GREY[..., None], ALPHA], axis=-1)
    if kind != "unspecified":
        grey = read(tmp_path / "b.tif", grey, photometric="minisblack", planarconfig="contig", extrasamples=[kind])
        np.testing.assert_array_equal(grey, GREY)


def test_white_as_0_is_inverted_for_8_and_16_bits_alike(tmp_path):
    np.testing.assert_array_equal(read(tmp_path / "a.tif", 255 - GREY, photometric="miniswhite"), GREY)
    np.testing.assert_array_equal(read(tmp_path / "b.tif", 65535 - GREY16, photometric="miniswhite"), GREY16)
    white = np.array([[True, False, True]])
    assert read(tmp_path / "c.tif", white, photometric="miniswhite").tolist() == [[0, 255, 0]]


def test_1_bit_is_black_and_white(tmp_path):
    Image.fromarray(np.array([[False, True, True]])).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").tolist() == [[0, 255, 255]] == read_values(tmp_path / "a.tif").tolist()


def test_12_bits_keep_their_values(tmp_path):
    values = np.array([[0, 1, 700, 4095]], dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, bitspersample=12, compression="jpeg2000", photometric="minisblack")
    packed = bytes([0x00, 0x00, 0x01, 0x2B, 0xCF, 0xFF])  # two values of 12 bits in three bytes
    tifffile.imwrite(
        tmp_path / "b.tif", iter([packed]), shape=(1, 4), dtype=np.uint16, bitspersample=12, rowsperstrip=1
    )
    for name in ("a.tif", "b.tif"):
        assert read_image(tmp_path / name).tolist() == [[0, 1, 700, 4095]]
        assert read_image(tmp_path / name).dtype == np.uint16


def test_4_bits_are_scaled_in_an_image_and_ids_in_a_mask(tmp_path):
    packed = bytes([0x01, 0x5F])
    tifffile.imwrite(tmp_path / "a.tif", iter([packed]), shape=(1, 4), dtype=np.uint8, bitspersample=4, rowsperstrip=1)
    assert read_image(tmp_path / "a.tif").tolist() == [[0, 17, 85, 255]]
    assert read_values(tmp_path / "a.tif").tolist() == [[0, 1, 5, 15]]


def test_a_palette_gives_colours_of_an_image_and_indices_of_a_mask(tmp_path):
    colours = np.zeros((3, 256), dtype=np.uint16)
    colours[:, 0], colours[:, 2], colours[:, 255] = (257, 514, 771), (65535, 0, 256), (0, 65535, 0)
    ids = np.array([[0, 2, 255]], dtype=np.uint8)
    image = read(tmp_path / "a.tif", ids, photometric="palette", colormap=colours)
    assert image.tolist() == [[[1, 2, 3], [255, 0, 1], [0, 255, 0]]]
    assert read_values(tmp_path / "a.tif").tolist() == [[0, 2, 255]]


def test_a_bool_array_of_tifffile_is_a_mask_as_it_is(tmp_path):
    mask = np.array([[True, False, False]])
    tifffile.imwrite(tmp_path / "a.tif", mask)  # as 0 is white
    assert read_values(tmp_path / "a.tif").tolist() == [[255, 0, 0]]
    tifffile.imwrite(tmp_path / "b.tif", mask, software="scanner")
    assert read_values(tmp_path / "b.tif").tolist() == [[0, 255, 255]]


def test_cmyk_becomes_rgb(tmp_path):
    ink = np.array([[[0, 255, 255, 0], [0, 0, 0, 255], [55, 0, 155, 51]]], dtype=np.uint8)
    found = read(tmp_path / "a.tif", ink, photometric="separated")
    assert found.tolist() == [[[255, 0, 0], [0, 0, 0], [160, 204, 80]]]


def test_jpeg_within_tiff_becomes_rgb(tmp_path):
    found = read(tmp_path / "a.tif", wide(COLOUR), compression="jpeg", photometric="rgb")
    assert np.abs(found[12::24, 12::24].astype(int) - COLOUR).max() <= 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[-2000, -1000, 0, 500, 1000, 9000]], dtype=np.int16), [0, 0, 32768, 49151, 65535, 65535]),
        (np.array([[-1000, np.nan, 0.5, np.inf]], dtype=np.float32), [0, 0, 32784, 65535]),
        (np.array([[0, 1000, 70_000]], dtype=np.uint32), [32768, 65535, 65535]),
        (np.array([[-1000, 1000]], dtype=np.float64), [0, 65535]),
        (np.array([[-128, 127]], dtype=np.int8), [28573, 36929]),
    ],
    ids=lambda given: getattr(given, "dtype", None),
)
def test_signed_and_float_pixels_need_a_range_of_values(tmp_path, values, expected):
    with pytest.raises(
        ValueError,
        match=rf"a\.tif: pixels are {values.dtype}, expected uint8 or uint16; set `dataset.reading.value_range` to",
    ):
        read(tmp_path / "a.tif", values)
    found = read(tmp_path / "a.tif", values, ReadSettings(value_range=(-1000, 1000)))
    assert found.tolist() == [expected]
    assert found.dtype == np.uint16


def test_a_range_of_values_leaves_16_bits_alone(tmp_path):
    assert read(tmp_path / "a.tif", GREY16, ReadSettings(value_range=(0, 9))).tolist() == GREY16.tolist()


@pytest.mark.parametrize("planar", [False, True])
def test_of_several_bands_the_settings_choose(tmp_path, planar):
    image = np.moveaxis(BANDS, -1, 0) if planar else BANDS
    how = {"photometric": "minisblack", "planarconfig": "separate" if planar else "contig"}
    with pytest.raises(ValueError, match=r"a\.tif: has 5 bands, expected 1 or 3; set `dataset.reading.bands`"):
        read(tmp_path / "a.tif", image, **how)
    found = read(tmp_path / "a.tif", image, ReadSettings(bands=(4, 1, 5)), **how)
    np.testing.assert_array_equal(found, BANDS[..., [3, 0, 4]])
    np.testing.assert_array_equal(read(tmp_path / "a.tif", image, ReadSettings(bands=(2,)), **how), BANDS[..., 1])
    with pytest.raises(ValueError, match=r"has 5 bands, but `dataset.reading.bands` names band 6"):
        read(tmp_path / "a.tif", image, ReadSettings(bands=(6,)), **how)


def test_three_bands_are_colours(tmp_path):
    found = read(tmp_path / "a.tif", COLOUR16, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(found, COLOUR16)


def test_infrared_beside_rgb_can_be_chosen(tmp_path):
    image = np.concatenate([COLOUR, ALPHA], axis=-1)
    found = read(tmp_path / "a.tif", image, ReadSettings(bands=(4,)), photometric="rgb", extrasamples=["unspecified"])
    assert found.tolist() == [[9] * 3] * 2


@pytest.mark.parametrize("dtype", [np.int32, np.int16, np.float32, np.uint32, np.int8])
def test_masks_are_whole_numbers_of_any_kind(tmp_path, dtype):
    values = np.array([[0, 1, 100, -1 if np.dtype(dtype).kind != "u" else 70_000]], dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert read_values(tmp_path / "a.tif").tolist() == values.tolist()
    assert read_values(tmp_path / "a.tif").dtype.kind in "iu"


def test_a_mask_of_fractions_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 0.5]], dtype=np.float32))
    with pytest.raises(ValueError, match=r"a\.tif: pixels are float32 with fractions, expected whole numbers"):
        read_values(tmp_path / "a.tif")


def test_pages_are_refused_or_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY, GREY // 2]), photometric="minisblack")
    for reader in (read_image, read_size, read_values):
        with pytest.raises(ValueError, match=r"a\.tif: holds 2 pages, of which only the first would be read; .*`pages"):
            reader(tmp_path / "a.tif")
    assert read_image(f"{tmp_path}/a.tif?page=2").tolist() == (GREY // 2).tolist()
    assert read_size(f"{tmp_path}/a.tif?page=2") == (2, 3)
    with pytest.raises(ValueError, match=r"a\.tif: page 3 does not exist, the file has 2"):
        read_image(f"{tmp_path}/a.tif?page=3")


def test_a_thumbnail_is_no_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY, photometric="minisblack")
        file.write(GREY[:1], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), GREY)


def test_colours_of_another_kind_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.tif: a TIFF of CIELAB colours cannot be read; convert it to grey or RGB"):
        read(tmp_path / "a.tif", COLOUR, photometric="cielab")


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("keep", [0.4, 0.9])
def test_a_truncated_file_is_refused(tmp_path, compression, keep):
    noise = np.random.default_rng(0).integers(0, 255, (60, 70), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", noise, compression=compression)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=r"a\.tif: (truncated or damaged, cannot be decoded|not an image)"):
        read_image(tmp_path / "a.tif")


@pytest.mark.fault(
    scenario="TIFF with damaged tags",
    command="kedro run --pipeline data_processing, seg-pipeline predict, seg-pipeline serve",
    outcome="a finding or a refusal, never a traceback",
    review="serving 4",
)
def test_damaged_tags_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    for at in range(8, 200, 3):
        broken = content.copy()
        broken[at : at + 2] = b"\xff\xfe"
        (tmp_path / "a.tif").write_bytes(broken)
        try:
            read_image(tmp_path / "a.tif")
        except ValueError as error:
            assert str(error).startswith(str(tmp_path / "a.tif"))  # noqa: PT017


def chained(number: int, *, tags: bytes = b"", payload: bytes = b"") -> bytes:
    """A TIFF of ``number`` pages of 4 x 4 grey pixels, each with the same entries."""
    entries = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
               (277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 1, 16)]  # fmt: skip
    coded = b"".join(struct.pack("<HHII", *entry) for entry in entries) + tags
    size, begin = 2 + len(coded) + 4, 24 + len(payload)
    pages = [
        struct.pack("<H", len(coded) // 12) + coded + struct.pack("<I", begin + size * index if index < number else 0)
        for index in range(1, number + 1)
    ]
    return b"II*\0" + struct.pack("<I", begin) + bytes(range(16)) + payload + b"".join(pages)


@pytest.mark.fault(
    scenario="TIFF of very many pages",
    command="kedro run --pipeline data_processing, seg-pipeline predict, seg-pipeline serve",
    outcome="refused before the pages are read",
    review="serving 3",
)
def test_a_file_of_very_many_pages_is_refused_before_their_headers_are_read():
    assert decode_image(chained(1), name="a.tif").ravel().tolist() == list(range(16))
    with pytest.raises(ValueError, match=r"a\.tif: holds 10,001 pages, more than the limit of 10,000"):
        decode_image(chained(10_001), name="a.tif")


@pytest.mark.fault(
    scenario="TIFF whose tags take gigabytes",
    command="kedro run --pipeline data_processing, seg-pipeline predict, seg-pipeline serve",
    outcome="refused before anything is read",
    review="serving 1",
)
def test_tags_that_share_their_bytes_are_not_read():
    """2,000 unknown tags that all claim the same 200 kB: OpenCV's reader took all of them, 400 MB."""
    tags = b"".join(struct.pack("<HHII", 50_000 + number, 1, 200_000, 24) for number in range(2000))
    data = chained(1, tags=tags, payload=bytes(200_000))
    tracemalloc.start()
    image = decode_image(data, name="a.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.ravel().tolist() == list(range(16))
    assert peak < 20_000_000


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_of_an_imagej_stack_that_has_one_directory(tmp_path, dtype):
    stack = np.arange(24, dtype=dtype).reshape(4, 2, 3)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        directory = file.pages[0].offset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    after = directory + 2 + 12 * int.from_bytes(content[directory : directory + 2], "big")
    content[after : after + 4] = bytes(4)  # ImageJ writes no more than the first directory of a large stack
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif: holds 4 pages"):
        read_image(tmp_path / "a.tif")
    assert [read_image(f"{tmp_path}/a.tif?page={page}").tolist() for page in (1, 2, 3, 4)] == stack.tolist()
    with pytest.raises(ValueError, match=r"a\.tif: page 5 does not exist, the file has 4"):
        read_image(f"{tmp_path}/a.tif?page=5")


STACK = np.zeros((4, 8, 9), dtype=np.uint16)
SPACED = [
    # 4 pixels per unit across, 2 down: 0.25 and 0.5 of it
    ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um", "axes": "YX"}}, [5e-4, 2.5e-4, None]),
    ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "\\u00B5m", "axes": "YX"}}, [5e-4, 2.5e-4, None]),
    ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "inch", "axes": "YX"}}, [12.7, 6.35, None]),
    ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "mm", "axes": "ZYX", "spacing": 3}}, [0.5, 0.25, 3]),
    ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "mm", "axes": "TYX", "spacing": 3}}, [0.5, 0.25]),
    ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "pixel", "axes": "YX"}}, None),
    ({"imagej": True, "metadata": {"unit": "mm", "axes": "YX"}}, [1, 1, None]),
    ({"resolution": (72, 72), "resolutionunit": "inch"}, None),  # what a printer would do
    ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 2}}, [2e-3, 5e-4, None]),
    ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25,
                                "PhysicalSizeYUnit": "mm", "PhysicalSizeZ": 7}}, [0.25, 5e-7, 7e-3]),
    ({"ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 1, "PhysicalSizeY": 1, "PhysicalSizeZ": 7}},
     [1e-3, 1e-3, None]),
    ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel"}}, None),
    ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0, "PhysicalSizeY": 1}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("how", "expected"), SPACED)
def test_the_spacing_of_ome_and_imagej_is_in_mm(tmp_path, how, expected):
    flat = len(how.get("metadata", {"axes": "YX"})["axes"]) == 2
    tifffile.imwrite(tmp_path / "a.tif", STACK[0] if flat else STACK, **how)
    names = ("spacing_y", "spacing_x", "spacing_z")
    wanted = {name: size for name, size in zip(names, expected or [], strict=False) if size is not None}
    assert read_spacing(f"{tmp_path}/a.tif?page=2", turned=False) == pytest.approx(wanted)
    turned = {**wanted, "spacing_y": wanted["spacing_x"], "spacing_x": wanted["spacing_y"]} if wanted else {}
    assert read_spacing(tmp_path / "a.tif", turned=True) == pytest.approx(turned)


def test_damaged_metadata_give_no_spacing(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[0], description="<?xml version='1.0'?><OME xmlns:xsi='http://www.w3.org/'><x></OME>"
    )
    (tmp_path / "b.png").write_bytes(b"x")
    assert read_spacing(tmp_path / "a.tif", turned=False) == read_spacing(tmp_path / "b.png", turned=False) == {}


def changed_tag(code, kind, count, value, **how):
    """A TIFF of GREY16 whose tag has another type, count and value."""
    file = io.BytesIO()
    tifffile.imwrite(file, wide(GREY16), **how)
    data = bytearray(file.getvalue())
    directory = int.from_bytes(data[4:8], "little")
    for at in range(directory + 2, directory + 2 + 12 * int.from_bytes(data[directory : directory + 2], "little"), 12):
        if int.from_bytes(data[at : at + 2], "little") == code:
            data[at : at + 12] = struct.pack("<HHII", code, kind, count, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("tag", "how", "text"),
    [
        ((257, 3, 2, 0x00020003), {}, "not an image, or its header is damaged"),  # two heights: a TypeError
        ((257, 9, 1, 2**32 - 3), {}, "not an image, or its header is damaged"),  # -3 rows
        (
            (323, 4, 1, 2**29),
            {"tile": (16, 16), "compression": "lzw"},
            "its 8,589,934,592 values are more than the lim",
        ),
        ((273, 16, 1, 0), {}, "truncated or damaged|not an image"),
    ],
)
def test_tags_that_cannot_be_are_named_damage(tag, how, text):
    """As the fuzzer found them: the tile took 16 GB."""
    with pytest.raises(ValueError, match=rf"a\.tif: ({text})"):
        decode_image(changed_tag(*tag, **how), name="a.tif")


def test_a_seek_before_the_start_is_damage_and_no_error_of_the_disk(tmp_path, monkeypatch):
    """pread says EINVAL for it, as a disk never does."""
    tifffile.imwrite(tmp_path / "a.tif", wide(GREY16))

    def seeks(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", seeks)
    with pytest.raises(ValueError, match=r"a\.tif: truncated or damaged, cannot be decoded"):
        read_image(tmp_path / "a.tif")


@pytest.mark.fault(
    scenario="TIFF that crashes its decoder",
    command="kedro run --pipeline data_processing, seg-pipeline predict, seg-pipeline serve",
    outcome="a finding or a refusal: the decoder runs in a process of its own",
)
def test_a_tile_that_crashes_its_decoder_is_refused(tmp_path):
    """Codes of LZW at which imagecodecs 2026.3.6 ends its process, not every time."""
    data = mutant("tiff_tiled", 162, seed=31)
    (tmp_path / "a.tif").write_bytes(data)
    for read in (lambda: read_image(tmp_path / "a.tif"), lambda: decode_image(data, name="a.tif")):
        with pytest.raises(ValueError, match="damaged"):
            read()


def test_a_decoder_that_ended_its_process_is_named(tmp_path, monkeypatch):
    def ended(*_):
        raise ProcessDiedError("ended with exit code -11")

    monkeypatch.setattr(tiff, "call_apart", ended)
    tifffile.imwrite(tmp_path / "a.tif", GREY, compression="lzw")
    with pytest.raises(ValueError, match=r"a\.tif: damaged: the process that decoded it ended with exit code -11$"):
        read_image(tmp_path / "a.tif")
