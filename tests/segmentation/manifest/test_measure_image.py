import tracemalloc

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.files import with_reading
from seg_pipeline.segmentation.manifest.measure_image import MaskReader, measure_image
from seg_pipeline.segmentation.manifest.measure_table import join_measurements, measure_images, measure_rows
from seg_pipeline.segmentation.manifest.metadata import INDEXED
from seg_pipeline.segmentation.settings.reading import ReadSettings


def save(path, values, dtype=np.uint8):
    assert cv2.imwrite(str(path), np.asarray(values, dtype=dtype))
    return str(path)


def one_image(path, masks, **columns):
    return pd.DataFrame(
        [{"image_id": "i1", "row": 7, "file": "i1.png", "path": path, "group": "g", **columns, **masks}]
    )


@pytest.fixture
def image(tmp_path):
    return save(tmp_path / "i1.png", [[0, 10, 20], [30, 40, 50]])


def test_an_image_is_measured_and_its_masks_made_row_major(image):
    table = one_image(image, {"mask_a": ["3 1 6 1"], "mask_b": []}, spacing_x=1.5)
    manifest, findings = measure_images(table, MaskReader({"a": "a", "b": "b"}, "rle", rle_order="F"))
    assert findings.empty
    row = manifest.iloc[0].to_dict()
    assert (len(row.pop("content_hash")), len(row.pop("thumbnail"))) == (32, 64)
    assert row == {
        "image_id": "i1",
        "file": "i1.png",
        "path": image,
        "group": "g",
        "spacing_x": 1.5,
        "height": 2,
        "width": 3,
        "channels": 1,
        "dtype": "uint8",
        "intensity_min": 0,
        "intensity_max": 50,
        "intensity_mean": 25.0,
        "overlaps": "",
        "mask_a": "2 1 6 1",
        "mask_b": "",
        "ignore": "",
        "area_a": 2,
        "share_a": 1 / 3,
        "objects_a": 1,  # the two pixels touch at a corner
        "area_b": 0,
        "share_b": 0.0,
        "objects_b": 0,
    }


def test_files_and_one_indexed_file_give_the_same_manifest(tmp_path, image):
    indexed = save(tmp_path / "m.png", [[5, 9, 9], [7, 7, 5]])
    a, b = (
        save(tmp_path / "a.png", [[255, 0, 0], [0, 0, 255]]),
        save(tmp_path / "b.png", [[0, 0, 0], [1, 1, 0]]),
    )
    shared = {"class_values": {"a": "5", "b": "7"}, "exclusive": True, "ignore_unlabelled": True}
    one, _ = measure_images(
        one_image(image, {f"mask_{INDEXED}": [indexed]}),
        MaskReader(mask_format=INDEXED, ignore_values=[9], **shared),
    )
    many, _ = measure_images(
        one_image(image, {"mask_a": [a], "mask_b": [b]}), MaskReader(mask_format="files", **shared)
    )
    pd.testing.assert_frame_equal(one, many)
    assert one.iloc[0][["mask_a", "mask_b", "ignore"]].tolist() == ["1 1 6 1", "4 2", "2 2"]


def test_parts_of_a_mask_are_joined(image):
    manifest, _ = measure_images(one_image(image, {"mask_a": ["1 2", "6 1"]}), MaskReader({"a": "a"}, "rle"))
    assert manifest.iloc[0][["mask_a", "area_a", "objects_a"]].tolist() == ["1 2 6 1", 3, 1]


def test_instances_are_counted_as_given_also_where_they_touch_or_hold_nothing(tmp_path, image):
    left, right, none = (
        save(tmp_path / f"{number}.png", values)
        for number, values in enumerate(([[1, 0, 0], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]))
    )
    table = one_image(image, {"mask_a": [left, right, none]})
    objects = {}
    for instances in (False, True):
        manifest, _ = measure_images(table, MaskReader({"a": "a"}, "files", instances=instances))
        objects[instances] = manifest.iloc[0][["mask_a", "area_a", "objects_a"]].tolist()
    assert objects == {False: ["1 2 4 2", 4, 1], True: ["1 2 4 2", 4, 2]}


def test_masks_of_unknown_truth_take_their_pixels_out_of_every_class(image):
    table = one_image(image, {"mask_a": ["1 3"], "mask_b": [], "mask_(ignore)": ["3 1", "6 1"]})
    manifest, _ = measure_images(table, MaskReader({"a": "a", "b": "b"}, "rle"))
    assert manifest.iloc[0][["mask_a", "ignore", "area_a"]].tolist() == ["1 2", "3 1 6 1", 2]


COLOURED = [[[0, 0, 0], [255, 0, 128], [255, 0, 128]], [[9, 9, 9], [9, 9, 9], [0, 0, 255]]]  # blue first


def test_colours_and_a_palette_of_them_are_classes(tmp_path, image):
    save(tmp_path / "rgb.png", COLOURED)
    palette = Image.fromarray(np.array([[0, 1, 1], [2, 2, 3]], dtype=np.uint8))
    palette.putpalette([0, 0, 0, 128, 0, 255, 9, 9, 9, 255, 0, 0])
    palette.save(tmp_path / "palette.png")
    for name in ("rgb.png", "palette.png"):
        reader = MaskReader(
            {"a": "#8000ff", "b": "#ff0000"}, INDEXED, background_values=["#000000"], ignore_values=["#090909"]
        )
        manifest, _ = measure_images(one_image(image, {f"mask_{INDEXED}": [str(tmp_path / name)]}), reader)
        assert manifest.iloc[0][["mask_a", "mask_b", "ignore"]].tolist() == ["2 2", "6 1", "4 2"]


def test_a_16_bit_mask_has_no_colours_of_8_bits(tmp_path, image):
    mask = save(tmp_path / "m.png", np.zeros((2, 3, 3)), dtype=np.uint16)
    good = save(tmp_path / "good_colours.png", np.zeros((2, 3, 3)))
    table = pd.concat([one_image(image, {f"mask_{INDEXED}": [path]}).assign(image_id=path) for path in (mask, good)])
    manifest, findings = measure_images(table, MaskReader({"a": "#000000"}, INDEXED))
    assert len(manifest) == 1
    assert "16 bits per channel, but its classes are declared as 8-bit colours" in findings["reason"].item()


def finding_of(table, reader, tmp_path):
    """The finding about the one bad image, beside a good one that must be kept."""
    good = one_image(save(tmp_path / "good.png", [[1, 2, 3]]), {name: [] for name in table if name.startswith("mask_")})
    if reader.mask_format == INDEXED:
        good[f"mask_{INDEXED}"] = [[save(tmp_path / "good_mask.png", [[1, 1, 1]])]]
    manifest, findings = measure_images(pd.concat([table, good.assign(image_id="good")]), reader)
    assert manifest["image_id"].tolist() == ["good"]
    assert findings[["image_id", "file", "action"]].to_numpy().tolist() == [["i1", "i1.png", "dropped"]]
    return findings.iloc[0]


def test_run_lengths_past_the_end_are_a_finding(image, tmp_path):
    found = finding_of(one_image(image, {"mask_a": ["5 3"]}), MaskReader({"a": "a"}, "rle"), tmp_path)
    assert (found["rule"], found["row"]) == ("rle_out_of_bounds", 7)
    assert found["reason"] == "run lengths cover pixels 5 to 7, but an image of height 2 and width 3 has pixels 1 to 6"


def test_a_mask_of_another_size_is_a_finding(image, tmp_path):
    mask = save(tmp_path / "m.png", [[0, 1], [0, 0], [0, 0]])
    found = finding_of(one_image(image, {"mask_a": [mask]}), MaskReader({"a": "a"}, "files"), tmp_path)
    assert found["reason"].endswith("m.png: mask is 3 x 2 (height x width), its image 2 x 3")


def test_a_wrong_class_id_in_a_mask_is_a_finding(image, tmp_path):
    mask = save(tmp_path / "m.png", [[1, 1, 4], [1, 1, 1]])
    found = finding_of(one_image(image, {f"mask_{INDEXED}": [mask]}), MaskReader({"a": "1"}, INDEXED), tmp_path)
    assert "m.png: mask holds the values 4, but the classes have [1]; declare them" in found["reason"]


def test_a_colour_picture_is_no_mask(image, tmp_path):
    mask = save(tmp_path / "m.png", np.arange(18).reshape(2, 3, 3))
    found = finding_of(one_image(image, {"mask_a": [mask]}), MaskReader({"a": "a"}, "files"), tmp_path)
    assert "mask is a colour image" in found["reason"]


def test_a_missing_mask_file_is_a_finding(image, tmp_path):
    found = finding_of(one_image(image, {"mask_a": ["/no/m.png"]}), MaskReader({"a": "a"}, "files"), tmp_path)
    assert "/no/m.png: no such file" in found["reason"]


def test_a_damaged_image_is_a_finding(tmp_path):
    (tmp_path / "i1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = finding_of(one_image(str(tmp_path / "i1.png"), {"mask_a": []}), MaskReader({"a": "a"}, "rle"), tmp_path)
    assert found["rule"] == "unreadable_image"


def test_where_exclusive_classes_overlap_the_truth_is_not_known(image):
    table = one_image(image, {"mask_a": ["1 3"], "mask_b": ["3 2"]})
    manifest, findings = measure_images(table, MaskReader({"a": "a", "b": "b"}, "rle", exclusive=True))
    assert manifest.iloc[0][["mask_a", "mask_b", "ignore"]].tolist() == ["1 2", "4 1", "3 1"]
    assert findings[["rule", "action"]].to_numpy().tolist() == [["overlapping_classes", "repaired"]]
    assert findings["reason"].item() == "1 pixels belong to several classes; they are ignored in training and scores"


def test_classes_may_overlap_where_they_are_not_exclusive(image):
    manifest, findings = measure_images(
        one_image(image, {"mask_a": ["1 3"], "mask_b": ["3 2"]}), MaskReader({"a": "a", "b": "b"}, "rle")
    )
    assert manifest.iloc[0][["mask_a", "mask_b", "ignore"]].tolist() == ["1 3", "3 2", ""]
    assert findings.empty


def test_the_header_wins_over_the_name(image):
    table = one_image(image, {"mask_a": []}, height=3, width=2)
    manifest, findings = measure_images(table, MaskReader({"a": "a"}, "rle"))
    assert manifest.iloc[0][["height", "width"]].tolist() == [2, 3]
    assert findings["reason"].item() == "the name says 3 x 2 (height x width), the header 2 x 3; the header is used"


def test_a_blank_image_is_flagged_and_kept(tmp_path):
    table = one_image(save(tmp_path / "i1.png", [[9, 9, 9]]), {"mask_a": []})
    manifest, findings = measure_images(table, MaskReader({"a": "a"}, "rle"))
    assert len(manifest) == 1
    assert findings[["rule", "reason", "action"]].to_numpy().tolist() == [
        ["blank_image", "every pixel is 9", "flagged"]
    ]


def test_no_usable_image_is_an_error():
    with pytest.raises(
        ValueError, match=r"none of the 1 images can be used; the first finding: /no/i1.png: no such file"
    ):
        measure_images(one_image("/no/i1.png", {"mask_a": []}), MaskReader({"a": "a"}, "rle"))


@pytest.mark.slow
def test_several_processes_give_the_same_manifest(located, manifest):
    reader = MaskReader({"box": "box", "disc": "disc"}, "rle")
    rows = measure_rows(located, reader, None, num_workers=2)
    table, _ = join_measurements(located, rows)
    pd.testing.assert_frame_equal(table, manifest.drop(columns="split"))


def test_masks_that_jpeg_changed_are_read_by_their_nearest_value(tmp_path, image):
    indexed = save(tmp_path / "m.png", [[1, 3, 128], [120, 131, 255]])
    reader = MaskReader({"a": "128", "b": "255"}, INDEXED, background_values=[0], nearest_value=True)
    manifest, findings = measure_images(one_image(image, {f"mask_{INDEXED}": [indexed]}), reader)
    assert findings[["rule", "action"]].to_numpy().tolist() == [["lossy_mask", "repaired"]]
    assert findings["reason"][0].endswith(
        "m.png: 4 of 6 pixels hold other values and are read as the closest declared one"
    )
    assert manifest[["mask_a", "mask_b"]].to_numpy().tolist() == [["3 3", "6 1"]]
    reader = MaskReader({"a": "a"}, "files", nearest_value=True)
    manifest, findings = measure_images(one_image(image, {"mask_a": [indexed]}), reader)
    assert manifest["mask_a"].tolist() == ["3 1 5 2"]
    assert "m.png: 5 of 6 pixels hold other values" in findings["reason"][0]


def test_masks_of_0_and_1_are_not_taken_for_black(tmp_path, image):
    mask = save(tmp_path / "m.png", [[0, 1, 0], [0, 0, 1]])
    reader = MaskReader({"a": "a"}, "files", nearest_value=True)
    manifest, findings = measure_images(one_image(image, {"mask_a": [mask]}), reader)
    assert manifest["mask_a"].tolist() == ["2 1 6 1"]
    assert findings.empty


def test_neighbouring_ids_in_a_jpeg_are_not_guessed(tmp_path, image):
    mask = save(tmp_path / "m.png", [[0, 1, 3], [2, 2, 0]])
    reader = MaskReader({"a": "1", "b": "2"}, INDEXED, background_values=[0], nearest_value=True)
    with pytest.raises(ValueError, match="1 pixels hold other values than the declared ones, which are only 1 apart"):
        measure_images(one_image(image, {f"mask_{INDEXED}": [mask]}), reader)


def test_a_jpeg_that_is_read_by_its_nearest_values_is_one_finding(tmp_path, image):
    Image.fromarray(np.array([[0, 250, 250], [0, 0, 250]], dtype=np.uint8)).save(tmp_path / "m.jpg", quality=95)
    reader = MaskReader({"a": "255"}, INDEXED, background_values=[0], nearest_value=True)
    manifest, findings = measure_images(one_image(image, {f"mask_{INDEXED}": [str(tmp_path / "m.jpg")]}), reader)
    assert manifest["mask_a"].tolist() == ["2 2 6 1"]
    assert findings[["rule", "action"]].to_numpy().tolist() == [["lossy_mask", "repaired"]]


def test_a_jpeg_as_a_mask_is_named(tmp_path, image):
    Image.fromarray(np.zeros((2, 3), dtype=np.uint8)).save(tmp_path / "m.jpg")
    reader = MaskReader({"a": "1"}, INDEXED, background_values=[0])
    _, findings = measure_images(one_image(image, {f"mask_{INDEXED}": [str(tmp_path / "m.jpg")]}), reader)
    assert findings["rule"].tolist() == ["lossy_mask"]
    assert findings["reason"][0].endswith("m.jpg: the mask is a JPEG, which changes values")


def photo(path, orientation, shape):
    """A JPEG of this stored height and width."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)).save(path, exif=exif)
    return str(path)


UPRIGHT = [[1, 0], [1, 0], [0, 0]]
STORED = [[0, 0, 0], [0, 1, 1]]  # a quarter turn clockwise gives [[0, 0], [1, 0], [1, 0]]


@pytest.mark.parametrize(("drawn", "expected"), [(UPRIGHT, "1 1 3 1"), (STORED, "3 1 5 1")])
@pytest.mark.parametrize("mask_format", ["files", INDEXED])
def test_masks_are_turned_with_their_photo_unless_they_are_upright(tmp_path, drawn, expected, mask_format):
    path = photo(tmp_path / "i.jpg", 6, (2, 3))
    column = "mask_a" if mask_format == "files" else f"mask_{INDEXED}"
    reader = MaskReader({"a": "1"}, mask_format, background_values=[0])
    table = one_image(path, {column: [save(tmp_path / "m.png", drawn)]})
    manifest, findings = measure_images(table, reader)
    assert manifest[["height", "width", "mask_a"]].to_numpy().tolist() == [[3, 2, expected]]
    turned = [["mask_turned", "repaired"]] if drawn is STORED else []
    assert findings[["rule", "action"]].to_numpy().tolist() == [*turned, ["exif_orientation", "repaired"]]
    assert findings["reason"].iloc[-1] == "the image was turned as its EXIF orientation 6 says"


@pytest.mark.parametrize(("orientation", "shape"), [(3, (2, 3)), (6, (3, 3))])
def test_a_size_that_cannot_tell_is_flagged(tmp_path, orientation, shape):
    path = photo(tmp_path / "i.jpg", orientation, shape)
    mask = save(tmp_path / "m.png", np.eye(*shape))
    reader = MaskReader({"a": "a"}, "files")
    _, findings = measure_images(one_image(path, {"mask_a": [mask]}), reader)
    reason = (
        f"the image was turned as its EXIF orientation {orientation} says; whether its masks were drawn on the turned "
        "picture, their size cannot tell"
    )
    assert findings[["rule", "action", "reason"]].to_numpy().tolist() == [["exif_orientation", "flagged", reason]]
    _, findings = measure_images(one_image(path, {"mask_a": []}), reader)
    assert findings["action"].tolist() == ["repaired"]


def test_turned_photos_are_one_finding_with_their_number_and_examples(tmp_path):
    table = pd.concat(
        [one_image(photo(tmp_path / f"{number}.jpg", turned, (2, 3)), {"mask_a": []}).assign(
            image_id=f"i{number}", file=f"{number}.jpg") for number, turned in enumerate((6, 3, 6, 6, 6))],
        ignore_index=True)  # fmt: skip
    _, findings = measure_images(table, MaskReader({"a": "a"}, "files"))
    reason, others = "the image was turned as its EXIF orientation {} says", "; the same holds for 3 more images"
    assert findings[["image_id", "reason"]].to_numpy().tolist() == [
        ["i0", reason.format(6) + others + ", such as 2.jpg and 3.jpg"],
        ["i1", reason.format(3)],
    ]


def test_an_orientation_that_is_kept_is_flagged(tmp_path):
    path = photo(tmp_path / "i.jpg", 6, (2, 3))
    table = with_reading(
        one_image(path, {"mask_a": [save(tmp_path / "m.png", [[0, 1, 1], [0, 0, 0]])]}),
        ReadSettings(orientation="keep", bands=(1,)),
        mask_files=True,
    )
    assert table["path"][0].endswith("i.jpg?orientation=keep&bands=1")
    assert table["mask_a"][0][0].endswith("m.png?orientation=keep")
    manifest, findings = measure_images(table, MaskReader({"a": "a"}, "files"))
    assert manifest[["height", "width", "mask_a", "path"]].to_numpy().tolist() == [[2, 3, "2 2", table["path"][0]]]
    assert findings["reason"].tolist() == [
        "its EXIF orientation 6 is not applied, as `dataset.reading.orientation` says"
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_mask_of_another_size_is_refused_or_scaled(tmp_path, image, dtype):
    tifffile.imwrite(tmp_path / "m.tif", np.kron([[0, 7, 0], [0, 0, 7]], np.ones((2, 2))).astype(dtype))
    table = one_image(image, {"mask_a": [str(tmp_path / "m.tif")]})
    with pytest.raises(
        ValueError, match=r"mask is 4 x 6 \(height x width\), its image 2 x 3; `annotations.resample_ma"
    ):
        measure_images(table, MaskReader({"a": "a"}, "files"))
    manifest, findings = measure_images(table, MaskReader({"a": "a"}, "files", resample=True))
    assert manifest["mask_a"].tolist() == ["2 1 6 1"]
    assert findings[["rule", "action"]].to_numpy().tolist() == [["mask_resampled", "repaired"]]
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((3, 2), dtype=dtype))
    with pytest.raises(ValueError, match=r"mask is 3 x 2 \(height x width\), its image 2 x 3$"):
        measure_images(table, MaskReader({"a": "a"}, "files", resample=True))


def test_ids_may_be_negative(tmp_path, image):
    tifffile.imwrite(tmp_path / "m.tif", np.array([[0, 1, -1], [70_000, 1, 0]], dtype=np.int32))
    reader = MaskReader({"a": "1", "b": "70000"}, INDEXED, background_values=[0], ignore_values=[-1])
    manifest, _ = measure_images(one_image(image, {f"mask_{INDEXED}": [str(tmp_path / "m.tif")]}), reader)
    assert manifest[["mask_a", "mask_b", "ignore"]].to_numpy().tolist() == [["2 1 5 1", "4 1", "3 1"]]


def test_a_cut_off_mask_is_a_finding(tmp_path, image):
    mask = save(tmp_path / "m.png", [[0, 1, 0], [0, 0, 1]])
    (tmp_path / "m.png").write_bytes((tmp_path / "m.png").read_bytes()[:60])
    table = pd.concat([one_image(image, {"mask_a": [mask]}), one_image(image, {"mask_a": []})])
    _, findings = measure_images(table, MaskReader({"a": "a"}, "files"))
    assert findings[["rule", "action"]].to_numpy().tolist() == [["unreadable_mask", "dropped"]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1", "P"])
def test_binary_masks_of_every_mode(tmp_path, image, mode):
    grey = Image.fromarray(np.array([[0, 255, 0], [0, 0, 255]], dtype=np.uint8))
    (Image.fromarray(np.array(grey) // 255) if mode == "P" else grey).convert(mode).save(tmp_path / "m.png")
    manifest, _ = measure_images(
        one_image(image, {"mask_a": [str(tmp_path / "m.png")]}), MaskReader({"a": "a"}, "files")
    )
    assert manifest["mask_a"].tolist() == ["2 1 6 1"]


def test_a_palette_mask_with_a_border_of_255(tmp_path, image):
    mask = Image.fromarray(np.array([[255, 1, 2], [255, 0, 2]], dtype=np.uint8))
    mask.putpalette(list(range(256)) * 3)
    mask.save(tmp_path / "m.png")
    reader = MaskReader({"a": "1", "b": "2"}, INDEXED, background_values=[0], ignore_values=[255])
    manifest, _ = measure_images(one_image(image, {f"mask_{INDEXED}": [str(tmp_path / "m.png")]}), reader)
    assert manifest[["mask_a", "mask_b", "ignore"]].to_numpy().tolist() == [["2 1", "3 1 6 1", "1 1 4 1"]]


def test_values_of_an_indexed_mask_may_number_objects(tmp_path, image):
    mask = save(tmp_path / "m.png", [[1, 2, 0], [1, 9, 7]])
    reader = MaskReader({"cell": "1"}, INDEXED, ignore_values=[9], instances=True)
    manifest, findings = measure_images(one_image(image, {f"mask_{INDEXED}": [mask]}), reader)
    assert findings.empty
    assert manifest[["mask_cell", "ignore", "objects_cell"]].to_numpy().tolist() == [["1 2 4 1 6 1", "5 1", 3]]


@pytest.mark.parametrize("masks", [[], ["a.png", "b.png"]])
def test_an_indexed_image_without_a_mask_is_a_finding(image, masks):
    table = pd.concat([one_image(image, {f"mask_{INDEXED}": masks})])
    with pytest.raises(ValueError, match=f"the row names {len(masks)} mask files, expected one with all classes"):
        measure_images(table, MaskReader({"a": "1"}, INDEXED))


def test_spacing_is_that_of_the_name_else_of_the_file(tmp_path):
    for name, size in (("a", 2), ("b", 4)):
        about = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": 1, "PhysicalSizeXUnit": "mm"}
        tifffile.imwrite(tmp_path / f"{name}.tif", np.eye(8, 9, dtype=np.uint8), ome=True, metadata=about)
    files = [str(tmp_path / "a.tif"), str(tmp_path / "b.tif"), save(tmp_path / "c.png", np.eye(8, 9))]
    table = pd.concat([one_image(path, {"mask_a": []}).assign(image_id=path) for path in files], ignore_index=True)
    reader = MaskReader({"a": "a"}, "rle")
    manifest, _ = measure_images(table, reader)
    assert manifest["spacing_x"].fillna(0).tolist() == [2, 4, 0]
    assert manifest["spacing_y"].fillna(0).tolist() == [0.001, 0.001, 0]
    manifest, _ = measure_images(table.assign(spacing_x=[np.nan, 7.5, 8.5], spacing_y=[np.nan, 1.5, np.nan]), reader)
    assert manifest["spacing_x"].tolist() == [2, 7.5, 8.5]
    assert manifest["spacing_y"].fillna(0).tolist() == [0.001, 1.5, 0]
    assert "spacing_y" not in measure_images(table[2:], reader)[0]


@pytest.mark.parametrize("mask_format", ["rle", "files", INDEXED])
def test_memory_grows_with_the_classes_shown_not_declared(tmp_path, mask_format):
    values = np.zeros((256, 320), dtype=np.uint16)
    values[3:9, 5:8], values[40, 7:99], values[0, 0] = 17, 290, 301
    image, indexed = save(tmp_path / "i.png", values % 256), save(tmp_path / "m.png", values, dtype=np.uint16)
    files = {str(one): save(tmp_path / f"{one}.png", values == one) for one in (17, 290)}
    runs = {str(one): encode_rle(values == one, order="C") for one in (17, 290)}

    def measured(classes):
        given = {"rle": runs, "files": files}.get(mask_format, {})
        masks = {f"mask_{name}": [given[name]] if name in given else [] for name in classes}
        reader = MaskReader({name: name for name in classes}, mask_format, background_values=[0], ignore_values=[301],
                            exclusive=True)  # fmt: skip
        table = one_image(image, {f"mask_{INDEXED}": [indexed]} if mask_format == INDEXED else masks)
        (row,) = table.to_dict("records")
        tracemalloc.start()
        measure_image(row, reader)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return measure_images(table, reader)[0], peak / values.size

    few, many = measured(["17", "290"]), measured([str(one) for one in range(1, 301)])
    pd.testing.assert_frame_equal(few[0], many[0][list(few[0])])
    others = many[0].drop(columns=list(few[0])).iloc[0]
    assert set(others) == {"", 0}
    assert many[1] < few[1] + 30  # one byte per pixel and class would be 298 more


OBJECTS = {"instances": True, "objects": True}


def test_objects_of_an_indexed_mask_and_of_files_give_the_same_map(tmp_path, image):
    ids = save(tmp_path / "m.png", [[900, 900, 0], [70, 900, 3]], np.uint16)
    indexed = MaskReader({"cell": "1"}, INDEXED, ignore_values=[3], **OBJECTS)
    one, _ = measure_images(one_image(image, {f"mask_{INDEXED}": [ids]}), indexed)
    assert one["object_map_cell"].tolist() == ["1 2 2 4 1 1 5 1 2"]
    first, second = (
        save(tmp_path / "1.png", [[1, 1, 0], [0, 1, 0]]),
        save(tmp_path / "2.png", [[0, 0, 0], [9, 0, 0]]),
    )
    files = MaskReader({"cell": "1", "none": "2"}, "files", **OBJECTS)
    many, _ = measure_images(one_image(image, {"mask_cell": [second, first], "mask_none": []}), files)
    assert many[["object_map_cell", "object_map_none"]].iloc[0].tolist() == ["1 2 1 4 1 2 5 1 1", ""]
    assert many["objects_cell"].tolist() == [2]


def test_run_lengths_of_touching_objects_stay_apart(image):
    reader = MaskReader({"cell": "1"}, "rle", **OBJECTS)
    manifest, _ = measure_images(one_image(image, {"mask_cell": ["1 2", "3 2"]}), reader)
    assert manifest[["mask_cell", "object_map_cell"]].iloc[0].tolist() == ["1 4", "1 2 1 3 2 2"]
