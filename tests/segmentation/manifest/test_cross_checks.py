import time

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from seg_pipeline.segmentation.images.fingerprints import thumbnail
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.cross_checks import (
    check_copies,
    check_intensities,
    check_inverted,
    check_jumps,
    check_order,
    check_pixel_kinds,
    check_unstated,
    overlap_matrix,
)
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images


def images(number, **columns):
    """Rows of a manifest without masks; all of one series, and each of its own content."""
    rng = np.random.default_rng(0)
    base = {
        "image_id": [f"i{index}" for index in range(number)],
        "file": [f"i{index}.png" for index in range(number)],
        "group": "g",
        "series": "s",
        "frame": range(number),
        "height": 20,
        "width": 30,
        "dtype": "uint8",
        "channels": 1,
        "intensity_min": 0,
        "intensity_max": 200,
        "intensity_mean": 100.0,
        "content_hash": [f"h{index}" for index in range(number)],
        "thumbnail": [rng.bytes(32).hex() for _ in range(number)],
    }
    return pd.DataFrame({**base, **columns})


def told(findings):
    return findings[["image_id", "rule"]].to_numpy().tolist()


def test_equal_pixels_are_found_in_and_across_groups_but_not_among_blank_images():
    table = images(4, content_hash=["a", "a", "b", "a"], group=["g1", "g1", "g1", "g2"])
    findings = check_copies(table)
    assert findings["reason"].tolist() == [
        "its pixels are those of i0 in the same group",
        "its pixels are those of i0 in another group (g1)",
    ]
    assert check_copies(table.assign(intensity_max=0)).empty


def flipped(text, bits):
    """The thumbnail with that many bits changed, spread over all bands."""
    value = int(text, 16)
    for bit in range(bits):
        value ^= 1 << (bit * 33 % 256)
    return f"{value:064x}"


@pytest.mark.parametrize(("bits", "group", "found"), [(0, "g2", 1), (7, "g2", 1), (8, "g2", 0), (3, "g", 0)])
def test_images_that_look_alike_are_told_across_groups_only(bits, group, found):
    table = images(6)
    table.loc[4, ["thumbnail", "group"]] = [flipped(table.loc[1, "thumbnail"], bits), group]
    findings = check_copies(table)
    assert told(findings) == [["i4", "similar_images"]] * found
    if found:
        assert findings["reason"][0] == f"looks like i1 of group g: {bits} bits of their thumbnails differ"


def test_plain_pictures_resemble_none():
    assert check_copies(images(3, thumbnail="0" * 64, group=["a", "b", "c"])).empty


def test_a_recompressed_and_brightened_copy_is_found():
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 200, (90, 120), dtype=np.uint8), (0, 0), 4)
    image = cv2.normalize(image, None, 0, 180, cv2.NORM_MINMAX)
    coded = cv2.imencode(".jpg", image + 20, (cv2.IMWRITE_JPEG_QUALITY, 70))[1]
    copy = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    table = images(3, group=["a", "b", "c"])
    table.loc[[0, 2], "thumbnail"] = [thumbnail(image), thumbnail(copy)]
    assert told(check_copies(table)) == [["i2", "similar_images"]]


def test_another_dtype_or_number_of_channels_is_told():
    findings = check_pixel_kinds(images(4, dtype=["uint8", "uint16", "uint8", "uint8"], channels=[1, 1, 3, 1]))
    assert findings["reason"].tolist() == [
        "pixels are uint16 x 1 (dtype x channels), those of most images uint8 x 1",
        "pixels are uint8 x 3 (dtype x channels), those of most images uint8 x 1",
    ]


@pytest.mark.parametrize("check", [check_copies, check_pixel_kinds, check_intensities, check_jumps])
def test_ordinary_images_have_no_finding(check):
    assert check(with_masks([FULL] * 8)).empty
    assert check(with_masks([FULL] * 8, series=list("aabbccdd"))).empty


def test_a_dark_frame_is_an_outlier_and_a_dark_series_is_none():
    means = [100.0 + index for index in range(8)] + [20.0 + index for index in range(8)]
    means[3] = 30.0
    findings = check_intensities(images(16, series=["a"] * 8 + ["b"] * 8, intensity_mean=means))
    assert findings["reason"].tolist() == ["mean intensity is 30.0, that of the images around it 102.0"]
    assert findings["image_id"].tolist() == ["i3"]


def test_short_series_are_held_against_all():
    means = [100.0, 104.0, 96.0, 102.0, 98.0, 400.0]
    table = images(6, series=list("aabbcc"), intensity_mean=means)
    assert check_intensities(table)["image_id"].tolist() == ["i5"]


def with_masks(masks, **columns):
    rles = [encode_rle(mask, order="C") for mask in masks]
    return images(len(masks), mask_a=rles, area_a=[int(mask.sum()) for mask in masks], **columns)


def box(top, bottom, left=5):
    mask = np.zeros((20, 30), dtype=bool)
    mask[top:bottom, left : left + 12] = True
    return mask


EMPTY, FULL, MOVED = box(0, 0), box(4, 14), box(5, 15)


@pytest.mark.parametrize(
    ("masks", "found"),
    [
        ([FULL, EMPTY, MOVED], ["a has 0 pixels, in the frames before and after 120 and 120"]),
        ([FULL, box(4, 6), MOVED], ["a has 24 pixels, in the frames before and after 120 and 120"]),
        (
            [box(4, 9), np.ones((20, 30), dtype=bool), box(4, 9)],
            ["a has 600 pixels, in the frames before and after 60 and 60"],
        ),
        ([FULL, MOVED, FULL], []),
        ([FULL, EMPTY, EMPTY], []),  # it ends
        ([FULL, EMPTY, box(4, 14, left=17)], []),  # it is not one thing
        ([box(4, 6), EMPTY, box(4, 6)], []),  # too small to tell
    ],
)
def test_a_mask_that_jumps_for_one_frame_is_told(masks, found):
    assert check_jumps(with_masks(masks))["reason"].tolist() == found


def test_frames_that_are_not_evenly_spaced_are_no_neighbours():
    masks = [FULL, EMPTY, MOVED]
    assert check_jumps(with_masks(masks, frame=[1, 2, 9])).empty
    assert check_jumps(with_masks(masks, series=["a", "a", "b"])).empty
    assert not check_jumps(with_masks(masks, frame=[10, 40, 70])).empty


def test_the_overlap_matrix_by_hand():
    table = images(3, overlaps=["0+1:4 0+2:1", "", "0+1:6"], area_a=[50, 0, 30], area_b=[10, 5, 25], area_c=[2, 0, 0])
    table = table.assign(mask_a="", mask_b="", mask_c="")
    assert overlap_matrix(table).to_numpy().tolist() == [
        ["a", "b", 2, 10, 0.25],  # of the 40 pixels of b
        ["a", "c", 1, 1, 0.5],
        ["b", "c", 0, 0, 0.0],
    ]
    assert overlap_matrix(table[["mask_a", "area_a"]].assign(overlaps="")).empty


def test_not_annotated_is_kept_apart_from_empty():
    table = images(2, mask_a="", mask_b="")
    rows = [("i0", "a", "1 2"), ("i0", "b", ""), ("i1", "a", "1 2")]
    annotations = pd.DataFrame(rows, columns=["image_id", "class", "mask"])
    assert check_unstated(table, annotations)["reason"].tolist() == [
        "the table has no row for b, not even an empty one; the mask is taken as empty"
    ]
    stated = annotations[annotations["mask"] != ""]
    assert check_unstated(table, stated).empty, "here no row means no mask"


def scans(folder, shape, order, write=cv2.imwrite):
    """Ten images with a bright ellipse, whose run lengths were written in ``order`` and are read along rows."""
    rng = np.random.default_rng(4)
    rows = []
    for index in range(10):
        mask = np.zeros(shape, dtype=np.uint8)
        cv2.ellipse(mask, (int(rng.integers(20, 30)), int(rng.integers(44, 60))), (14, 6), 0, 0, 360, 1, -1)
        image = rng.integers(0, 40, shape, dtype=np.uint8) + 150 * mask
        path = str(folder / f"i{index}.png")
        assert write(path, image)
        about = {"image_id": f"i{index}", "row": index + 2, "file": f"i{index}.png", "path": path, "group": "g"}
        rows.append({**about, "mask_a": [encode_rle(mask.astype(bool), order=order)]})
    return measure_images(pd.DataFrame(rows), MaskReader({"a": "a"}, "rle", rle_order="C"))[0]


def test_the_wrong_order_shatters_masks_of_images_that_are_not_square(tmp_path):
    assert check_order(scans(tmp_path, (72, 96), "C"), "C").empty
    findings = check_order(scans(tmp_path, (72, 96), "F"), "C")
    assert findings["rule"].tolist() == ["rle_order_suspected"]
    assert (
        findings["reason"]
        .str.fullmatch(r"10 masks fall into \d+ objects, in the other order into 10; `rle_order` is declared as C")
        .all()
    )


def test_the_wrong_order_takes_masks_of_square_images_off_their_edges(tmp_path):
    assert check_order(scans(tmp_path, (80, 80), "C"), "C").empty
    findings = check_order(scans(tmp_path, (80, 80), "F"), "C")
    assert findings["reason"].tolist() == [
        "of 10 masks 10 follow the images' edges better in the other order; `rle_order` is declared as C"
    ]


@pytest.mark.parametrize("shape", [(80, 80), (72, 96)])
def test_where_photos_were_turned_that_is_named_as_the_other_explanation(tmp_path, shape):
    def photo(path, image):
        """Stored so that a quarter turn makes it upright; its masks are those of the stored picture."""
        exif = Image.Exif()
        exif[0x0112] = 5  # mirrored at the diagonal, as the wrong order mirrors a square mask
        Image.fromarray(image).save(path, exif=exif)
        return True

    findings = check_order(scans(tmp_path, shape, "C", write=photo), "C")
    assert findings["rule"].tolist() == ["rle_order_suspected"]
    assert findings["reason"][0].endswith(
        "; `rle_order` is declared as C; images have an EXIF orientation, which explains this too: try "
        "`dataset.reading.orientation` first"
    )


def test_a_few_masks_are_not_enough_to_tell_the_order(tmp_path):
    assert check_order(scans(tmp_path, (72, 96), "F").head(7), "C").empty


def test_copies_are_those_of_a_comparison_of_all_pairs_with_one_band_in_common():
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 256, (3, 32), dtype=np.uint8)[rng.integers(0, 3, 60)]
    for row in bits:
        for place in rng.integers(0, 32, rng.integers(0, 10)):
            row[place] ^= 1 << rng.integers(0, 8)
    group = rng.integers(0, 4, 60)
    table = images(60, thumbnail=[row.tobytes().hex() for row in bits], group=[f"g{one}" for one in group])
    expected = {}  # by pair of groups: the first pair of images, and how many there are
    for other in range(60):
        pairs = []
        for band in np.split(np.arange(32), 8):
            alike = (bits[:other, band] == bits[other, band]).all(axis=1) & (group[:other] != group[other])
            pairs += [(np.bitwise_count(bits[one] ^ bits[other]).sum(), one) for one in np.flatnonzero(alike)[:8]]
        if pairs and min(pairs)[0] < 8:
            one = min(pairs)[1]
            expected.setdefault(frozenset((group[one], group[other])), []).append((one, other))
    assert sum(map(len, expected.values())) > 20
    assert len(expected) == 6
    findings = check_copies(table).set_index("image_id")["reason"]
    assert set(findings.index) == {f"i{pairs[0][1]}" for pairs in expected.values()}
    for (one, other), *more in expected.values():
        assert findings[f"i{other}"].startswith(f"looks like i{one} of group g{group[one]}: ")
        assert (f"; the same holds for {len(more)} more image" in findings[f"i{other}"]) == bool(more)


def test_similar_images_of_two_groups_are_one_finding_with_their_number_and_three_examples():
    table = images(12, group=["g1"] * 5 + ["g2"] * 7)
    for copy in range(4):  # i5 is like i0, i6 like i1 and so on
        table.loc[5 + copy, "thumbnail"] = flipped(table.loc[copy, "thumbnail"], 2 + copy)
    findings = check_copies(table)
    assert findings[["image_id", "file", "action"]].to_numpy().tolist() == [["i5", "i5.png", "flagged"]]
    assert findings["reason"].tolist() == [
        "looks like i0 of group g1: 2 bits of their thumbnails differ; the same holds for 3 more images of the two "
        "groups, such as i6 (like i1) and i7 (like i2)"
    ]
    third = table.assign(group=["g1"] * 5 + ["g2"] * 2 + ["g3"] * 5)
    assert check_copies(third)["reason"].tolist() == [
        "looks like i0 of group g1: 2 bits of their thumbnails differ; the same holds for 1 more image of the two "
        "groups, such as i6 (like i1)",
        "looks like i2 of group g1: 4 bits of their thumbnails differ; the same holds for 1 more image of the two "
        "groups, such as i8 (like i3)",
    ]


def test_thousands_of_similar_images_cost_no_row_of_a_table_each():
    number = 8000
    table = images(number, group=["g1"] * (number // 2) + ["g2"] * (number // 2))
    table.loc[number // 2 :, "thumbnail"] = table["thumbnail"][: number // 2].to_numpy()
    start = time.process_time()
    assert len(check_copies(table)) == 1
    assert time.process_time() - start < 0.5  # 0.1 s; 0.8 s when each pair took two rows out of the table


def test_the_time_of_the_checks_grows_with_the_number_of_images_only():
    number = 15_000
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, (number, 32), dtype=np.uint8)
    bits[:, :8] = 0  # black borders: all images share two bands
    table = images(number, thumbnail=[row.tobytes().hex() for row in bits], mask_a="", mask_b="")
    table["group"] = [f"g{one // 50}" for one in range(number)]
    annotations = pd.DataFrame({"image_id": table["image_id"], "class": "a", "mask": ""})
    start = time.process_time()
    assert check_copies(table).empty
    between = time.process_time()
    found = check_unstated(table, annotations)
    assert set(found["reason"]) == {"the table has no row for b, not even an empty one; the mask is taken as empty"}
    assert between - start < 1  # 0.1 s; 1.6 s and four times as much per doubling when every pair was compared
    assert time.process_time() - between < 3  # 0.3 s; a minute when each image searched the whole table


def with_cells(masks, **columns):
    """Images 20 x 30 with a class "cell" of these masks."""
    rows = images(len(masks), **columns)
    areas = [int(mask.sum()) for mask in masks]
    return rows.assign(
        mask_cell=[encode_rle(mask, order="C") for mask in masks], ignore="", area_cell=areas,
        share_cell=[area / 600 for area in areas],
    )  # fmt: skip


def cells(number):
    """Masks of a cell of 6 x 8 pixels off the border."""
    masks = np.zeros((number, 20, 30), dtype=bool)
    for index, mask in enumerate(masks):
        mask[3 + index % 4 : 9 + index % 4, 5:13] = True
    return masks


def test_masks_whose_background_is_marked_are_suspected():
    (found,) = check_inverted(with_cells(~cells(8))).to_dict("records")
    assert (found["rule"], found["action"]) == ("inverted_masks_suspected", "flagged")
    assert found["reason"] == "cell covers 92% of the images that show it and 100% of their border"


def test_large_objects_few_images_and_further_classes_are_no_reason_to_suspect():
    large = np.zeros((8, 20, 30), dtype=bool)
    large[:, 1:-1, 1:-1] = True  # 84 % of the image, nothing of its border
    assert check_inverted(with_cells(large)).empty
    assert check_inverted(with_cells(cells(8))).empty
    assert check_inverted(with_cells(~cells(7))).empty
    street = with_cells(~cells(8)).assign(mask_car="", area_car=0, share_car=0.0)
    assert check_inverted(street).empty


def test_an_unlabelled_border_does_not_count():
    table = with_cells(~cells(8))
    frame = np.zeros((20, 30), dtype=bool)
    frame[[0, -1]], frame[:, [0, -1]] = True, True
    assert check_inverted(table.assign(ignore=encode_rle(frame, order="C"))).empty
