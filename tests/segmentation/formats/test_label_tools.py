"""Label tools: what is written is read back, what people drew is read by the tool's rules, and the field's mess."""

import base64
import io
import json
import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_pipeline.segmentation.formats.coco import read_coco
from seg_pipeline.segmentation.formats.label_tools import (
    WRITERS,
    Picture,
    ReadRules,
    Style,
    read_annotations,
    supervisely,
    write_annotations,
    yolo,
)
from seg_pipeline.segmentation.formats.label_tools import (
    labelme as labelme_tool,
)
from seg_pipeline.segmentation.formats.label_tools.label_studio import decode_brush, encode_brush
from seg_pipeline.segmentation.formats.label_tools.shapes import fill_inclusive, fill_polygon, iou, outline
from seg_pipeline.segmentation.formats.named_files import find_files, why_absent
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS
from seg_pipeline.segmentation.metrics.annotators import annotator_agreement

SIZE = (31, 46)
FILES = {"coco": "coco.json", "cvat": "cvat.xml", "label_studio": "label_studio.json", "via": "via.json", "yolo": "."}
COLOURS = {"cat": "#ff0080", "dög": "#00ff40"}
NAME = "site b/größe 1.png"


def blobs(seed: int) -> np.ndarray:
    """Several regions, one with two holes, one that touches by a corner, one of a pixel at the border."""
    mask = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=SIZE), (0, 0), 3) > 0.08
    mask[2:12, 3:25] = True
    mask[4:7, 6:9] = mask[5:9, 14:20] = False
    mask[-1, -1] = mask[-2, -2] = True
    mask[20:28, :] = False
    mask[23, 5] = True
    return mask


MASKS = {"cat": blobs(1), "dög": blobs(2)}


def image(folder: Path, name: str = "a.png", size: tuple[int, int] = SIZE) -> Path:
    path = folder / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size, dtype=np.uint8)).save(path)
    return path


def read(tool: str, folder: Path, **rules):
    path = folder / FILES.get(tool, tool)
    if tool == "coco":
        return read_coco(path, folder / "images")
    return read_annotations(tool, path, folder / "images", ReadRules(**rules))


def mask_of(table, image_id: str, label: str, size=SIZE) -> np.ndarray:
    rows = table[(table["image_id"] == image_id) & (table["class"] == label)]
    return np.any([np.zeros(size, bool), *(decode_rle(text, size, order="C") for text in rows["mask"])], axis=0)


def written(tool: str, folder: Path, **style):
    """The report, and the table that the tool's files give."""
    image(folder, NAME)
    picture = Picture(NAME, f"images/{NAME}", SIZE, MASKS)
    report = write_annotations([tool], folder, [picture], COLOURS, Style(**style))
    if tool == "label_studio":  # a person submits the prediction as it is
        path = folder / "label_studio.json"
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))
    return report, read(tool, folder)


@pytest.mark.parametrize("tool", sorted({*WRITERS} - {"via", "yolo"}))
def test_masks_come_back_to_the_pixel(tool, tmp_path):
    _, table = written(tool, tmp_path, shapes="masks")
    assert table["problem"].isna().all()
    for label, mask in MASKS.items():
        np.testing.assert_array_equal(mask_of(table, NAME[:-4], label), mask)


@pytest.mark.parametrize("shapes", ["masks", "polygons"])
@pytest.mark.parametrize("tool", sorted({*WRITERS} - {"yolo"}))
def test_objects_that_touch_stay_apart(tool, shapes, tmp_path):
    """Of a model that knows objects: two that touch, and one of two pieces, which is whole as a mask alone."""
    labels = np.zeros(SIZE, dtype=np.int32)
    labels[2:8, 4:8], labels[2:8, 8:13], labels[20:24, 5:9], labels[20:24, 30:36] = 1, 2, 3, 3
    image(tmp_path)
    picture = Picture("a.png", "images/a.png", SIZE, {"cat": labels > 0}, {"cat": labels})
    write_annotations([tool], tmp_path, [picture], COLOURS, Style(shapes))
    if tool == "label_studio":
        path = tmp_path / "label_studio.json"
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))
    areas = sorted(decode_rle(text, SIZE, order="C").sum() for text in read(tool, tmp_path)["mask"])
    whole = tool == "supervisely" or (shapes == "masks" and tool != "via")
    assert areas == ([24, 30, 40] if whole else [16, 24, 24, 30])


@pytest.mark.parametrize("least", [0.9, 0.98])
@pytest.mark.parametrize("tool", sorted({*WRITERS} - {"supervisely"}))
def test_polygons_come_back_at_the_stated_overlap(tool, least, tmp_path):
    report, table = written(tool, tmp_path, polygon_iou=least)
    assert table["problem"].isna().all()
    assert len(report) == len(table) > 6
    assert report["iou"].min() >= least
    for label, mask in MASKS.items():
        assert least <= iou(mask_of(table, NAME[:-4], label), mask)


@pytest.mark.parametrize(("inclusive", "fill"), [(False, fill_polygon), (True, fill_inclusive)])
def test_outline_by_hand(inclusive, fill):
    mask = np.zeros((5, 7), dtype=bool)
    mask[1:4, 1:6] = True
    mask[2, 3] = False
    points, reached = outline(mask, 1.0, inclusive=inclusive)
    assert reached == 1
    np.testing.assert_array_equal(fill(points, mask.shape), mask)
    box = np.zeros((5, 7), dtype=bool)
    box[1:4, 1:6] = True
    corners = {(1, 1), (1, 3), (5, 3), (5, 1)} if inclusive else {(1, 1), (1, 4), (6, 4), (6, 1)}
    assert {tuple(point) for point in outline(box, 1.0, inclusive=inclusive)[0].tolist()} == corners


@pytest.mark.parametrize("mask", [MASKS["cat"], np.zeros(SIZE, bool), np.ones((3, 2), bool), np.ones((300, 250), bool)])
def test_brush_runs(mask):
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), mask.shape), mask)


def test_brush_by_hand():
    # 8 values of 8 bits (a picture of 2 x 1); lengths of 3, 4, 8, 16 bits; literally 0 0 0 9, then four times 255
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}000011" + "0" * 24 + f"{9:08b}100011" + "1" * 8
    bits += "0" * (-len(bits) % 8)
    runs = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert decode_brush(runs, (1, 2)).tolist() == [[True, True]]
    with pytest.raises(ValueError, match="of 2 pixels, its image is 3 x 1"):
        decode_brush(runs, (3, 1))
    with pytest.raises(ValueError, match="end too early"):
        decode_brush(runs[:10], (1, 2))


# -- what people drew ------------------------------------------------------------------------------------------


def square(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def box(top, bottom, left, right, size=SIZE) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def polygon(points, label="cat", size=SIZE, key="r1"):
    height, width = size
    value = {"points": [[x * 100 / width, y * 100 / height] for x, y in points], "polygonlabels": [label]}
    return {"id": key, "type": "polygonlabels", "value": value, "original_width": width, "original_height": height}


def tasks(folder: Path, *given) -> None:
    (folder / "label_studio.json").write_text(json.dumps(given))


def task(name: str, *annotations, **more):
    return {"data": {"image": name}, "annotations": list(annotations), **more}


@pytest.mark.parametrize(
    "given",
    [
        "a.png",
        "/data/upload/3/a1b2c3d4-a.png",
        "/data/local-files/?d=somewhere/a.png",
        "s3://bucket/x/a.png",
        "..\\images\\a.png",
        "C:\\photos\\a.png",
        "../images/%61.png",
    ],
)
def test_names_of_files_as_tools_write_them(given, tmp_path):
    image(tmp_path)
    tasks(tmp_path, task(given, {"result": [polygon(square(3, 2, 8, 6))]}))
    table = read("label_studio", tmp_path)
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), box(2, 6, 3, 8))


@pytest.mark.parametrize(
    ("name", "found"),
    [("site a/1.png", None), ("images/site a/1.png", "site b/1.png"), ("site b/1.png", "site b/1.png")],
)
def test_a_file_is_not_taken_from_another_folder_than_the_stated_one(name, found, tmp_path):
    for file in ("site a/0.png", "site b/0.png", "site b/1.png"):
        image(tmp_path, file)
    assert find_files([name], tmp_path / "images", beside=tmp_path)[name].file == found


def test_why_no_file_is_found():
    files = ["a/0.png", "b/0.png", "c.png"]
    assert why_absent("/data/1/0123abcd-0.png", files) == "2 files have this name: a/0.png, b/0.png"
    assert why_absent("d.png", files) == "no such file exists"


def test_unlabelled_is_not_empty(tmp_path):
    for name in "abcde":
        image(tmp_path, f"{name}.png")
    tasks(
        tmp_path,
        task("a.png", {"result": []}),
        task("b.png", predictions=[{"result": [polygon(square(1, 1, 4, 4))]}]),
        task("c.png", {"result": [polygon(square(1, 1, 4, 4))], "was_cancelled": True}),
        task("d.png", {"result": [], "was_cancelled": True}, {"result": [polygon(square(1, 1, 4, 5))]}),
        task("e.png", {"result": [{"id": "k", "value": {"x": 1, "y": 2, "width": 1, "keypointlabels": ["cat"]}}]}),
    )
    table = read("label_studio", tmp_path).set_index("image_id", drop=False)
    assert table.loc["a", "class"] == NO_CLASS
    assert table.loc["b", "problem"] == "b: nobody has annotated it, so what it shows is unknown; it is left out"
    assert table.loc["c", "problem"] == "c: its task was cancelled or skipped; it is left out"
    assert table.loc["d", "class"] == "cat"
    assert table.loc["e", "problem"] == "e: it has shapes, but none that is a mask; it is left out"
    assert table["problem"].iloc[-1] == "label_studio.json: shapes that are no masks are left out: 1 key point"


def people(*boxes):
    return [
        {"completed_by": {"email": f"{who}@x"}, "updated_at": f"2026-01-0{day}T00:00:00Z",
         "result": [polygon(square(*one))] if one else []}
        for who, day, one in zip("bca", (2, 3, 1), boxes, strict=False)
    ]  # fmt: skip


def test_several_annotators(tmp_path):
    image(tmp_path)
    tasks(tmp_path, task("a.png", *people((0, 0, 6, 6), (2, 2, 8, 8), (4, 2, 8, 6))))
    told = "1 images were annotated several times, such as a (3 times: a@x, b@x, c@x); set `annotators` in the catalog"
    with pytest.raises(ValueError, match=re.escape(told)):
        read("label_studio", tmp_path)
    latest = mask_of(read("label_studio", tmp_path, annotators="latest"), "a", "cat")
    np.testing.assert_array_equal(latest, box(2, 8, 2, 8))
    voted = mask_of(read("label_studio", tmp_path, annotators="vote"), "a", "cat")
    np.testing.assert_array_equal(voted, box(2, 6, 2, 6) | box(2, 6, 4, 8))
    for rule in ("latest", "vote"):
        table = read("label_studio", tmp_path, annotators=rule)
        (row,) = annotator_agreement(table, {"Cat": "cat", "dog": "dog"}).to_dict("records")
        assert (row["image_id"], row["class"], row["annotators"]) == ("a", "Cat", 3)
        # areas 36, 36 and 16 of 31 x 46 pixels; in common 16, 8 and 16
        assert row["dice"] == pytest.approx((16 / 36 + 16 / 52 + 32 / 52) / 3)
        pairs = [(36, 36, 40), (36, 16, 36), (36, 16, 20)]  # areas, and pixels that only one marked
        chance = [1 - (one * other + (1426 - one) * (1426 - other)) / 1426**2 for one, other, _ in pairs]
        kappas = [1 - apart / 1426 / share for (_, _, apart), share in zip(pairs, chance, strict=True)]
        assert row["kappa"] == pytest.approx(np.mean(kappas))


def test_one_annotator_has_nothing_to_agree_with(tmp_path):
    image(tmp_path)
    tasks(tmp_path, task("a.png", *people((0, 0, 6, 6))))
    assert annotator_agreement(read("label_studio", tmp_path), {"cat": "cat"}).empty


def test_a_vote_for_nothing_is_a_negative(tmp_path):
    image(tmp_path)
    tasks(tmp_path, task("a.png", *people((0, 0, 6, 6), None, None)))
    assert read("label_studio", tmp_path, annotators="vote")["class"].tolist() == [NO_CLASS]


def test_json_min_and_brush_beside_polygon(tmp_path):
    image(tmp_path)
    size = {"original_width": SIZE[1], "original_height": SIZE[0]}
    brush = {"format": "rle", "rle": encode_brush(MASKS["dög"]), "brushlabels": ["dög"], **size}
    outline_ = {**polygon(square(3, 2, 8, 6))["value"], **size}
    tasks(tmp_path, {"image": "/data/upload/1/0a1b2c3d-a.png", "id": 1, "brush": [brush], "label": [outline_],
                     "annotator": 1, "annotation_id": 4})  # fmt: skip
    table = read("label_studio", tmp_path)
    np.testing.assert_array_equal(mask_of(table, "a", "dög"), MASKS["dög"])
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), box(2, 6, 3, 8))


def test_a_brush_whose_label_is_a_result_of_its_own(tmp_path):
    image(tmp_path)
    size = {"original_width": SIZE[1], "original_height": SIZE[0], "id": "x"}
    rle = {"format": "rle", "rle": encode_brush(MASKS["cat"])}
    parts = [{**size, "type": "brush", "value": rle}, {**size, "type": "labels", "value": {**rle, "labels": ["cat"]}}]
    tasks(tmp_path, task("a.png", {"result": parts}))
    table = read("label_studio", tmp_path)
    assert len(table) == 1
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), MASKS["cat"])


def test_a_region_of_several_labels_is_one_of_each(tmp_path):
    image(tmp_path)
    region = polygon(square(3, 2, 8, 6))
    region["value"]["polygonlabels"] = ["cat", "dog"]
    tasks(tmp_path, task("a.png", {"result": [region]}))
    table = read("label_studio", tmp_path)
    for label in ("cat", "dog"):
        np.testing.assert_array_equal(mask_of(table, "a", label), box(2, 6, 3, 8))
    about = {"name": "polygon", "all_points_x": [3, 8, 8, 3], "all_points_y": [2, 2, 6, 6]}
    region = {"shape_attributes": about, "region_attributes": {"class": {"cat": True, "dog": True, "cow": False}}}
    (tmp_path / "via.json").write_text(json.dumps({"a.png1": {"filename": "a.png", "regions": [region]}}))
    assert read("via", tmp_path)["class"].tolist() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"vertices": [{"x": 1, "y": 2}], "closed": True, "vectorlabels": ["cat"]}, "a vector is not read; make it a"),
        ({"imageDataURL": "data:image/png;base64,", "bitmasklabels": ["cat"]}, "a bitmask is not read; make it brush"),
    ],
)
def test_shapes_of_label_studio_that_are_not_read_make_no_negative(tmp_path, value, told):
    for name in "ab":
        image(tmp_path, f"{name}.png")
    tasks(
        tmp_path,
        task("a.png", {"result": [{"id": "v", "type": "some", "value": value}]}),
        task(
            "b.png", {"result": [polygon(square(1, 1, 4, 4)), {"id": "n", "type": "cuboidlabels", "value": {"z": 1}}]}
        ),
    )
    table = read("label_studio", tmp_path)
    assert table["class"].tolist()[:2] == ["cat", "cat"]
    assert table["problem"].iloc[0].startswith(f"shape 1 of a (cat): {told}")
    assert table["problem"].iloc[-1] == "label_studio.json: shapes that are no masks are left out: 1 cuboidlabels"


@pytest.mark.parametrize(
    ("more", "told"), [({"to_name": "right"}, "left, right"), ({"to_name": "left", "item_index": 1}, "left, left 1")]
)
def test_tasks_of_several_images_are_refused(tmp_path, more, told):
    image(tmp_path)
    results = [{**polygon(square(3, 2, 8, 6)), "to_name": "left"}, {**polygon(square(1, 1, 4, 4), key="r2"), **more}]
    tasks(tmp_path, task("a.png", {"result": results}))
    with pytest.raises(ValueError, match=rf"json: its tasks show several images \({told}\), and which of them a shape"):
        read("label_studio", tmp_path)


def turned(folder: Path) -> None:
    """A photo that EXIF turns to 31 x 46."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "images").mkdir()
    Image.fromarray(np.zeros(SIZE[::-1], dtype=np.uint8)).save(folder / "images/a.jpg", exif=exif)


def test_drawn_on_a_picture_that_exif_turned(tmp_path):
    turned(tmp_path)
    tasks(tmp_path, task("a.jpg", {"result": [polygon(square(3, 2, 8, 6))]}))
    np.testing.assert_array_equal(mask_of(read("label_studio", tmp_path), "a", "cat"), box(2, 6, 3, 8))
    with pytest.raises(ValueError, match="the image was turned after it was annotated"):
        read("label_studio", tmp_path, orientation="keep")


def labelme(folder: Path, *shapes, name="a", **more) -> None:
    content = {"version": "5.5.0", "shapes": list(shapes), "imagePath": f"..\\images\\{name}.png", "imageData": None,
               "imageHeight": SIZE[0], "imageWidth": SIZE[1], **more}  # fmt: skip
    (folder / "labelme").mkdir(exist_ok=True)
    (folder / f"labelme/{name}.json").write_text(json.dumps(content))


def test_labelme_fills_the_border_too(tmp_path):
    image(tmp_path), image(tmp_path, "b.png")
    labelme(
        tmp_path,
        {"label": "cat", "shape_type": "polygon", "points": square(3, 2, 8, 6), "group_id": 1},
        {"label": "cat", "shape_type": "polygon", "points": square(20, 2, 22, 3), "group_id": 1},
        {"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [5, 5]]},
        {"label": "cat", "shape_type": "point", "points": [[0, 0]]},
    )
    labelme(tmp_path, name="b")
    table = read("labelme", tmp_path)
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), box(2, 7, 3, 9) | box(2, 4, 20, 23))
    assert table.loc[table["image_id"] == "b", "class"].tolist() == [NO_CLASS]
    assert table["problem"].dropna().tolist() == [
        "labelme: shapes that are no masks are left out: 1 point, 1 rectangle"
    ]


def test_labelmes_image_beside_is_found_by_its_exact_name(tmp_path):
    for name in ("img [1].png", "img 1.png", "img [1].xml"):
        (tmp_path / name).touch()
    content = {"shapes": [], "imagePath": "D:\\gone.png", "imageHeight": 2, "imageWidth": 2}
    (tmp_path / "img [1].json").write_text(json.dumps(content))
    assert [item.file for item in labelme_tool.read(tmp_path)] == ["img [1].png"]


def test_labelmes_background_erases_what_was_drawn_before_it(tmp_path):
    image(tmp_path)
    shapes = [(square(3, 2, 8, 6), "cat"), (square(5, 2, 8, 6), "_background_"), (square(7, 4, 9, 6), "dog")]
    labelme(tmp_path, *({"label": label, "shape_type": "polygon", "points": points} for points, label in shapes))
    table = read("labelme", tmp_path)
    assert table["class"].tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), box(2, 7, 3, 5))
    np.testing.assert_array_equal(mask_of(table, "a", "dog"), box(4, 7, 7, 10))


def test_a_broken_shape_takes_its_image_along_or_is_left_out_alone(tmp_path):
    image(tmp_path)
    labelme(
        tmp_path,
        {"label": "cat", "shape_type": "polygon", "points": square(3, 2, 8, 6)},
        {"label": "cat", "shape_type": "polygon", "points": [[1, 1], [2, 2]]},
        {"label": None, "shape_type": "polygon", "points": square(3, 2, 8, 6)},
    )
    table = read("labelme", tmp_path)
    broken = table[table["problem"].notna()]
    assert broken["problem"].tolist() == [
        "shape 2 of a (cat): a polygon must have at least 3 points, found 2",
        "shape 3 of a (polygon) has no label",
    ]
    assert broken["image_id"].tolist() == ["a", "a"]
    assert read("labelme", tmp_path, invalid_annotations="drop_annotation")["image_id"].dropna().tolist() == ["a"]


def cvat(folder: Path, shapes: str, more: str = "", status: str = "") -> None:
    size = f'width="{SIZE[1]}" height="{SIZE[0]}"'
    text = f'<annotations><version>1.1</version><meta><task>{status}</task></meta><image id="0" name="a.png" {size}>'
    (folder / "cvat.xml").write_text(f"{text}{shapes}</image>{more.format(size=size)}</annotations>")


def test_cvat_mask_by_hand_and_later_shapes(tmp_path):
    image(tmp_path), image(tmp_path, "b.png")
    cvat(
        tmp_path,
        '<mask label="cat" rle="1, 2, 1, 2" left="3" top="2" width="3" height="2"/>'
        '<polygon label="dog" points="3.0,2.0;8.0,2.0;8.0,6.0;3.0,6.0"/><box label="cat" xtl="1"/><tag label="night"/>',
        '<image id="1" name="b.png" {size}></image>',
    )
    table = read("cvat", tmp_path)
    hand = box(2, 3, 4, 6) | box(3, 4, 4, 6)
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), hand)
    np.testing.assert_array_equal(mask_of(table, "a", "dog"), box(2, 6, 3, 8))
    problems = table["problem"].dropna().tolist()
    assert problems[0].startswith("b: it has no shape, and whether anyone looked at it is unknown")
    assert problems[1] == "cvat.xml: shapes that are no masks are left out: 1 box"
    assert NO_CLASS in read("cvat", tmp_path, empty_images="negative")["class"].tolist()
    cvat(tmp_path, "", '<image id="1" name="b.png" {size}></image>', "<status>completed</status>")
    assert read("cvat", tmp_path)["class"].tolist() == [NO_CLASS, NO_CLASS]


def test_tracks_of_a_video_are_refused(tmp_path):
    image(tmp_path)
    cvat(tmp_path, "")
    path = tmp_path / "cvat.xml"
    path.write_text(path.read_text().replace("</annotations>", '<track id="0" label="cat"></track></annotations>'))
    with pytest.raises(
        ValueError, match=r"cvat\.xml: it holds tracks of a video \(1\), which are not read; export the"
    ):
        read("cvat", tmp_path)


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        ([{"tissue": "cat"}, {"tissue": "dog"}], ["cat", "dog"]),
        ([{"name": 0}, {"name": "1"}], ["0", "1"]),
        ([{"quality": "good", "class": "cat"}, {"quality": "good", "tissue": "dog"}], ["cat", "none"]),
        (
            [{"quality": "good", "tissue": "cat"}],
            "regions have the attributes quality, tissue, and none is called class",
        ),
    ],
)
def test_the_class_of_via_is_never_guessed_among_attributes(tmp_path, given, classes):
    image(tmp_path)
    about = {"name": "polygon", "all_points_x": [3, 8, 8, 3], "all_points_y": [2, 2, 6, 6]}
    regions = [{"shape_attributes": about, "region_attributes": one} for one in given]
    (tmp_path / "via.json").write_text(json.dumps({"a.png1": {"filename": "a.png", "regions": regions}}))
    if isinstance(classes, str):
        with pytest.raises(ValueError, match=rf"via\.json: {classes}"):
            read("via", tmp_path)
        return
    assert sorted(read("via", tmp_path)["class"].fillna("none")) == classes


def test_images_that_were_resized_after_via_are_noticed(tmp_path):
    content = {}
    for name, right in (("a", 8), ("b", SIZE[1] * 2)):
        num_bytes = image(tmp_path, f"{name}.png").stat().st_size
        about = {"name": "polygon", "all_points_x": [3, right, right, 3], "all_points_y": [2, 2, 6, 6]}
        regions = [{"shape_attributes": about, "region_attributes": {"class": "cat"}}]
        content[name] = {"filename": f"{name}.png", "size": num_bytes + (name == "b"), "regions": regions}
    (tmp_path / "via.json").write_text(json.dumps(content))
    table = read("via", tmp_path)
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), box(2, 6, 3, 8))
    assert table["problem"].dropna().tolist() == [
        "shape 1 of b (cat): it reaches to x 92 and y 6, but the image is 31 x 46 (height x width): it was drawn on a "
        "larger one",
        "via.json: 1 image files have another number of bytes than when they were annotated, such as b.png: if they "
        "were resized, their masks are wrong",
    ]


def test_via_export_of_another_attribute(tmp_path):
    image(tmp_path)
    about = {"name": "polygon", "all_points_x": [3, 8, 8, 3], "all_points_y": [2, 2, 6, 6]}
    regions = {"0": {"shape_attributes": about, "region_attributes": {"quality": "good", "type": {"cat": True}}},
               "1": {"shape_attributes": {"name": "rect"}, "region_attributes": {}}}  # fmt: skip
    (tmp_path / "via.json").write_text(json.dumps({"a.png123": {"filename": "a.png", "size": 123, "regions": regions}}))
    table = read("via", tmp_path)
    np.testing.assert_array_equal(mask_of(table, "a", "cat"), box(2, 6, 3, 8))
    assert "1 rect" in table["problem"].iloc[-1]


def test_supervisely_holes_and_bitmaps(tmp_path):
    (tmp_path / "supervisely/ds/ann").mkdir(parents=True)
    folder = tmp_path / "supervisely/ds"
    (folder / "img").mkdir()
    Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(folder / "img/a.jpg.png")
    file = io.BytesIO()
    Image.fromarray(np.uint8([[0, 255, 255]])).save(file, format="PNG")
    bitmap = {"data": base64.b64encode(zlib.compress(file.getvalue())).decode(), "origin": [10, 20]}
    points = {"exterior": square(3, 2, 8, 6), "interior": [square(5, 4, 6, 4)]}
    objects = [{"classTitle": "cat", "geometryType": "polygon", "points": points},
               {"classTitle": "dog", "geometryType": "bitmap", "bitmap": bitmap}]  # fmt: skip
    content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": objects}
    (folder / "ann/a.jpg.png.json").write_text(json.dumps(content))
    table = read_annotations("supervisely", tmp_path / "supervisely", tmp_path / "supervisely", ReadRules())
    assert table["image_id"].tolist() == ["ds/img/a.jpg"] * 2
    cat = box(2, 7, 3, 9) & ~box(4, 5, 5, 7)
    np.testing.assert_array_equal(mask_of(table, "ds/img/a.jpg", "cat"), cat)
    np.testing.assert_array_equal(mask_of(table, "ds/img/a.jpg", "dog"), box(20, 21, 11, 13))


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (np.uint8([[[0, 0, 0, 0], [0, 0, 0, 255]]]), {}),  # black that is not transparent
        (np.uint8([[[9, 9, 9, 0], [9, 9, 9, 255]]]), {}),
        (np.uint8([[0, 1]]), {}),
        (np.uint8([[0, 7]]), {"transparency": 0}),
    ],
)
def test_a_bitmap_is_what_is_not_transparent_or_not_black(picture, options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", **options)
    data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    drawn = supervisely._bitmap({"bitmap": {"data": data, "origin": [1, 0]}}, (1, 4))
    assert drawn.tolist() == [[False, False, True, False]]


@pytest.mark.fault(
    scenario="damaged or hostile export of a label tool",
    command="kedro run --pipeline data_processing",
    outcome="a finding of the image, or one sentence that names the file",
)
def test_a_mask_or_polygon_beyond_its_image_is_a_problem_before_it_takes_memory_or_time(tmp_path):
    image(tmp_path)
    cvat(tmp_path, '<mask label="cat" rle="0,9000000000" left="0" top="0" width="90000" height="100000"/>')
    with pytest.raises(
        ValueError, match=r"shape 1 of a \(cat\): its mask of 100000 x 90000 does not fit into an image"
    ):
        read("cvat", tmp_path)
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, format="PNG")
    png = file.getvalue()
    mask = {"label": "cat", "shape_type": "mask", "points": [[0, 0]], "mask": base64.b64encode(png).decode()}
    labelme(tmp_path, mask)
    with pytest.raises(ValueError, match="its mask of 9000 x 9000 does not fit"):
        read("labelme", tmp_path)
    folder = tmp_path / "supervisely/ds"
    (folder / "ann").mkdir(parents=True)
    (folder / "img").mkdir()
    (tmp_path / "images/a.png").rename(folder / "img/a.png")
    bitmap = {"data": base64.b64encode(zlib.compress(png)).decode(), "origin": [0, 0]}
    bomb = {"data": base64.b64encode(zlib.compress(bytes(10**8))).decode(), "origin": [0, 0]}
    objects = [
        {"classTitle": "cat", "geometryType": "polygon", "points": {"exterior": [[0, 0], [2**31 - 1, 1], [5, 5]]}},
        {"classTitle": "cat", "geometryType": "polygon", "points": {}},
        {"classTitle": "cat", "geometryType": "bitmap", "bitmap": bitmap},
        {"classTitle": "cat", "geometryType": "bitmap", "bitmap": bomb},
        {"classTitle": "dog", "geometryType": "polygon", "points": {"exterior": square(3, 2, 8, 6)}},
    ]
    content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": objects}
    (folder / "ann/a.png.json").write_text(json.dumps(content))
    table = read_annotations("supervisely", tmp_path / "supervisely", tmp_path / "supervisely", ReadRules())
    assert [one.partition(": ")[2][:45] for one in table["problem"].dropna()] == [
        "its points lie far outside the image",
        "KeyError: 'exterior'",
        "its mask of 9000 x 9000 does not fit into an ",
        "its bitmap cannot be decoded: cannot identify",
    ]


@pytest.mark.parametrize(
    ("tool", "file", "text", "told"),
    [
        ("cvat", "cvat.xml", '<a><image height="x"/></a>', "ValueError: invalid literal for int() with base 10: 'x'"),
        ("labelme", "labelme/a.json", '{"shapes": [1], "imagePath": ""}', "AttributeError: 'int' object has no attrib"),
        ("supervisely", "supervisely/a.json", '{"objects": [], "size": 1}', "TypeError: 'int' object is not subscrip"),
        ("via", "via.json", '{"a": {"filename": "a", "regions": 1}}', "TypeError: 'int' object is not iterable"),
        (
            "label_studio",
            "label_studio.json",
            '[{"data": {"image": "a"}, "annotations": [1]}]',
            "AttributeError: 'int'",
        ),
    ],
)
def test_parts_of_another_kind_are_one_sentence(tool, file, text, told, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    named = tmp_path / FILES.get(tool, tool)
    with pytest.raises(ValueError, match=re.escape(f"{named}: cannot be read as {tool}: {told}")):
        read(tool, tmp_path)


def test_yolo_labels_belong_to_the_image_not_to_another_file_of_its_name(tmp_path):
    image(tmp_path, "a.png")
    for file in ("a.xml", "a.json"):
        (tmp_path / "images" / file).touch()
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0 0 0.5 0 0.5 1\n")
    (item,) = yolo.read(tmp_path)
    assert item.file == "images/a.png"


def test_yolo_lines(tmp_path):
    for name in ("a", "b", "c"):
        image(tmp_path, f"train/{name}.png", (10, 20))
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nnames: [cat, dog]\n")
    (tmp_path / "labels/train/a.txt").write_text("1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "labels/train/b.txt").write_text("")
    table = read_annotations("yolo", tmp_path, tmp_path / "images", ReadRules())
    np.testing.assert_array_equal(mask_of(table, "train/a", "dog", (10, 20)), box(2, 6, 2, 10, (10, 20)))
    assert table["image_id"].dropna().tolist() == ["train/a", "train/b", "train/c"]
    assert "unknown" in table.loc[table["image_id"] == "train/c", "problem"].item()  # perhaps nobody labelled c
    assert table.loc[table["image_id"] == "train/b", "class"].tolist() == [NO_CLASS]
    assert "1 box" in table["problem"].iloc[-1]


def test_tools_share_their_outlines(tmp_path, monkeypatch):
    from seg_pipeline.segmentation.formats.label_tools import shapes

    drawn = []
    monkeypatch.setattr(shapes, "outline", lambda *one, **how: drawn.append(how) or outline(*one, **how))
    picture = Picture(NAME, f"images/{NAME}", SIZE, MASKS)
    report = write_annotations(["coco", "cvat", "via", "labelme"], tmp_path, [picture], COLOURS, Style())
    assert len(report) == 2 * len(drawn)  # labelme has its own
    assert report.groupby("tool")["iou"].min().ge(0.98).all()
