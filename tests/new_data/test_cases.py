"""The field's mess in ../shared/cases: `new-data --yes` gives the right masks, or says what is wrong and what to do.

That folder is not part of the project. ``RIGHT`` and ``REFUSED`` say of each input what is right.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from tests.new_data.test_zoo import environment, processed, write_environment

from seg_pipeline.segmentation.formats.coco_masks import decode_segmentation
from seg_pipeline.segmentation.inference.sources import find_images
from seg_pipeline.segmentation.manifest.table import read_masks

CASES = Path(__file__).parents[3] / "shared/cases"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases, which is not part of the project"),
]
Masks = dict[str, np.ndarray]


def scene(i: int, h: int = 64, w: int = 80, classes: int = 2, seed: int = 0) -> np.ndarray:
    """Label map that ../shared/cases/common.py draws; the same random numbers in the same order."""
    rng = np.random.default_rng(1000 * seed + i)
    rng.integers(20, 60, (h, w, 3))
    label = np.zeros((h, w), np.uint8)
    yy, xx = np.mgrid[:h, :w]
    for c in range(1, classes + 1):
        cy, cx = rng.integers(h // 5, h - h // 5), rng.integers(w // 5, w - w // 5)
        r = max(2, int(min(h, w) * rng.uniform(0.1, 0.2)))
        disc = (yy - cy) ** 2 + (xx - cx) ** 2 <= r * r
        label[disc if c % 2 else (abs(yy - cy) <= r) & (abs(xx - cx) <= r * 1.3)] = c
    return label


def values(names: Iterable[str], label: np.ndarray) -> Masks:
    return {name: label == value for value, name in enumerate(names, start=1)}


def boxes(names: Iterable[str], label: np.ndarray) -> Masks:
    masks = values(names, label)
    for mask in masks.values():
        ys, xs = np.nonzero(mask)
        mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    return masks


def corner(name: str, label: np.ndarray) -> Masks:
    """A triangle over the box of class 1."""
    ys, xs = np.nonzero(label == 1)
    x0, x1, y0, y1 = map(int, (xs.min(), xs.max(), ys.min(), ys.max()))
    return {name: decode_segmentation([[x0, y0, x1, y0, x1, y1]], label.shape)}


def labelme_corner(name: str, label: np.ndarray) -> Masks:
    """The same as labelme fills it."""
    ys, xs = np.nonzero(label == 1)
    canvas = Image.new("1", label.shape[::-1])
    points = [(int(xs.min()), int(ys.min())), (int(xs.max()), int(ys.min())), (int(xs.max()), int(ys.max()))]
    ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
    return {name: np.array(canvas, dtype=bool)}


def half(height: int, width: int) -> np.ndarray:
    points = [0.1 * width, 0.1 * height, 0.5 * width, 0.1 * height, 0.5 * width, 0.5 * height]
    return decode_segmentation([points], (height, width))


def mixed(i: int) -> Masks:
    polygons = [[-3.2, 5.5, 20.25, 5.5, 20.25, 30.75, -3.2, 30.75], [60.0, 40, 85, 40, 85, 70, 60, 70]]
    brush = decode_segmentation(polygons, (64, 80))
    return {"dog": (scene(i) == 1) & (i != 3), "tooth brush": brush & (i != 3)}


def voxels(i: int, h: int = 24, w: int = 20) -> np.ndarray:
    x, y, z = np.mgrid[:h, :w, :6]
    label = np.zeros((h, w, 6), np.uint8)
    label[(x - 8 - i % 3) ** 2 + (y - 9) ** 2 < 20] = 1
    label[(abs(x - 17) < 3) & (abs(y - 12) < 3) & (z > 1)] = 2
    return label


@dataclass
class Right:
    file: Callable[[int], str]
    """Image file, below the folder."""
    masks: Callable[[int], Masks]
    number: int | Iterable[int] = 12
    answers: dict[str, str] = field(default_factory=dict)
    findings: set[str] = field(default_factory=set)
    """Rules of the findings."""
    told: str = ""


def plain(names: Iterable[str], draw: Callable[..., Masks] = values, **how: Any) -> Callable[[int], Masks]:
    return lambda i: draw(names, scene(i, **how))


TWO = ("class_1", "class_2")
FIRST = {"rle_first": "1"}
LINES = ["IMG_0001", "IMG 0002", "img (3)", "img[4]", "größe_5", "影像_6", "a+b_7", "x.y.z_8", "9", "-10", "it's 11", "p%20q_12"]  # fmt: skip # noqa: E501
coco = partial(Right, file=lambda i: f"images/{i:06d}.jpg", masks=plain("ab", boxes))
table = partial(Right, file=lambda i: f"images/{i:03d}.png", masks=plain(("cyst", "node")), answers=FIRST)
KINDS = ["tif"] * 3 + ["png"] * 4 + ["jpg"] * 2 + ["png"] + ["tif"] * 2 + ["png", "bmp", "webp", "tiff"]
QUOTED = ["car/truck", "red & blue (50%)", "größe", "a: b", "../up", "x=y", "{curly}", "class_100", '"quoted"']


def joined(names: Iterable[str], digits: int, h: int, w: int) -> Right:
    masks = plain(names, h=h, w=w, classes=3)
    return Right(lambda i: f"train_images/{i:0{digits}x}.jpg", masks, answers=FIRST)


def thing(i: int) -> Masks:
    """The 150 classes, drawn again after the 24 images before."""
    rng = np.random.default_rng(0)
    label = np.zeros((64, 80), np.uint8)
    for _ in range(i + 1):
        rng.integers(0, 255, (64, 80, 3))
        label[:] = 0
        for _ in range(30):
            c = int(rng.integers(1, 151))
            y, x = int(rng.integers(0, 56)), int(rng.integers(0, 70))
            label[y : y + 8, x : x + 10] = c
    return values([f"thing {c}" for c in range(1, 151)], label)


def dots(i: int) -> Masks:
    """Run lengths "1 1" in the first row: its first pixel."""
    dot = np.arange(64 * 80).reshape(64, 80) == 0
    return values(("cyst", "node"), scene(i)) if i else {"cyst": dot, "node": dot}


def block(_: int) -> Masks:
    mask = np.zeros((64, 80), dtype=bool)
    mask[16:41, 24:56] = True
    return {"foreground": mask}


def cells(i: int) -> Masks:
    kinds = ("shsy5y", "astro", "cort")
    return {kind: (scene(i, classes=4) > 0) & (kinds[i % 3] == kind) for kind in kinds}


def tissue(i: int) -> Masks:
    organs = ("prostate", "spleen", "lung", "kidney", "largeintestine")
    label = scene(i, h=64, w=64, classes=1)
    return {organ: (label == 1) & (organs[i % 5] == organ) for organ in organs}


RIGHT = {
    "01_ls_backslash": Right(lambda i: f"images/{i:08x}-photo_{i}.png", plain(("cat", "dog"), boxes)),
    "03_exif": Right(lambda i: f"images/IMG_{i:04d}.jpg", plain(TWO, h=96, w=64), findings={"exif_orientation"}),
    "03_exif_square": Right(lambda i: f"images/IMG_{i:04d}.jpg", plain(TWO, h=64, w=64), findings={"exif_orientation"}),
    "03_exif_coco": Right(
        lambda i: f"images/IMG_{i:04d}.jpg", plain("a", corner, h=96, w=64), findings={"exif_orientation"}
    ),
    "04_coco_mixed": Right(
        lambda i: f"images/{i:012d}.jpg",
        mixed,
        sorted({*range(12)} - {5, 6}),
        findings={"unusable_annotation", "incomplete_annotation"},
        told="invalid_annotations: drop_annotation",
    ),
    "05_severstal": joined([f"class_{c}" for c in range(1, 5)], 9, 32, 160),
    "05_clouds": joined(("Fish", "Flower", "Gravel", "Sugar"), 7, 56, 84),
    "05_severstal_apart": Right(
        lambda i: f"train_images/{i:09x}.jpg",
        plain(("class_1", "class_2", "class_3"), h=32, w=160, classes=3),
        [i for i in range(12) if i % 3],
        answers=FIRST,
        findings={"file_without_row"},
    ),
    "07_no_class_column": Right(
        lambda i: f"train_v2/{i:09x}.jpg",
        lambda i: {"foreground": (scene(i, h=64, w=64) > 0) & (i % 3 > 0)},
        answers=FIRST,
    ),
    "09_jpeg_masks": Right(
        lambda i: f"images/{i}.jpg", lambda i: {"foreground": scene(i) > 0}, findings={"lossy_mask"}
    ),
    "09_jpeg_masks_few": Right(lambda i: f"images/{i}.jpg", block, findings={"lossy_mask"}),
    "13_names": Right(
        lambda i: f"Images/{LINES[i]}{'.JPG' if i % 2 else '.jpeg'}", plain(TWO)
    ),
    "13_names_space dir é": Right(lambda i: f"images/{i}.png", plain(TWO)),
    "13_names_mac": Right(lambda i: f"images/case{i}.png", plain(TWO)),
    "13_names_dup": Right(
        lambda i: f"site_{'ab'[i // 6]}/images/{i % 6:03d}.png", lambda i: values(TWO, scene(i % 6, seed=i // 6))
    ),
    "13_names_split": Right(
        lambda i: f"images/{'train' if i < 9 else 'val'}/{i % 9:03d}.png", plain(TWO), told="9 train, 3 val"
    ),
    "13_names_carvana": Right(
        lambda i: f"train/{i // 4:012x}_{i % 4 + 1:02d}.jpg",
        lambda i: {"foreground": scene(10 * (i // 4) + i % 4, classes=1) > 0},
        16,
    ),
    **{f"15_coco_{mess}": coco() for mess in ("strid", "dupann", "noid", "nosize", "floatsize", "dupcat")},
    "15_coco_abs": coco(findings={"repaired_annotation"}),
    "15_coco_missing": coco(number=range(1, 12), findings={"row_without_file"}, told="images without a file: 1"),
    "15_coco_trainval": Right(
        lambda i: f"{'train' if i < 8 else 'val'}2017/{i:06d}.jpg", plain("ab", boxes), told="8 train, 4 val"
    ),
    "15_coco_roboflow": Right(lambda i: f"train/pic-{i + 1}_jpg.rf.{i + 1:032x}.jpg", plain("ab", boxes)),
    "16_csv_na": table(masks=plain(("cyst", "NA"))),
    "16_csv_latin": table(masks=plain(("Gefäß", "node"))),
    "16_csv_winpath": table(masks=dots),
    **{f"16_csv_{mess}": table() for mess in ("semi", "bom", "zeros")},
    **{f"16_csv_{mess}": table(masks=plain(["cyst"]), answers={}) for mess in ("winfiles", "files_ext")},
    "18_images": Right(
        lambda i: f"images/s{i:02d}.{KINDS[i]}",
        plain(TWO),
        range(3, 16),
        findings={"unreadable_image"},
        told="are of another kind, such as s03.png",
    ),
    "20_cvat_masks": Right(lambda i: f"JPEGImages/f{i:03d}.jpg", plain(("crack", "spall"))),
    "20_labelme": Right(lambda i: f"img{i:02d}.jpg", plain("a", labelme_corner)),
    "20_yolo_seg": Right(lambda i: f"images/train/f{i:03d}.jpg", lambda _: {"a": half(64, 80)}),
    "21_files_csv": Right(lambda i: f"images/frame_{i:03d}.png", plain(("vein", "artery"))),
    "22_class_names": Right(lambda i: f"images/f{i:03d}.png", plain(QUOTED, classes=9), 24, FIRST),
    "23_many_classes": Right(lambda i: f"images/f{i:03d}.png", thing, 24),
    "26_few_3": Right(
        lambda i: f"images/patient{i // 6:02d}_slice{i % 6:03d}.png",
        lambda i: {"foreground": scene(100 * (i // 6) + i % 6, classes=1) > 0},
        18,
    ),
    "26_few_4": Right(
        lambda i: f"images/patient{i // 6:02d}_slice{i % 6:03d}.png",
        lambda i: {"foreground": scene(100 * (i // 6) + i % 6, classes=1) > 0},
        24,
    ),
    "35_cells": Right(lambda i: f"train/{i * 104729:012x}.png", cells, answers=FIRST),
    "35_tissue": Right(lambda i: f"train_images/{10000 + i * 37}.tiff", tissue, 15, FIRST),
}  # fmt: skip
REFUSED = {
    **dict.fromkeys(("05_severstal", "07_no_class_column", "16_csv_na", "35_tissue"), "--rle-first 1"),
    "09_jpeg_masks_id": "JPEG has changed them, probably class ids. Export the masks again as PNG",
    "13_names_stems": r"fit several images (images/s00.jpg, images/s00.png); give the images different names",
    "15_coco_swapped": "height and width are swapped in the JSON file",
    "15_coco_backsize": "its annotations are for 32 x 40 (height x width), the image is 64 x 80; put the images",
    "17_nifti_interp": "found 0.6 and other fractions in 366 voxels: they were interpolated",
}
UNUSABLE = {
    "17_nifti_4d2": "its shape is (24, 20, 6, 2), expected 3 dimensions; split time or channels into files",
    "17_nifti_nan": "204 of its values are NaN or infinite",
    "17_nifti_neglabel": "it is shifted by (34.5, 28.5, 0) mm (to the right, front and head)",
    "17_nifti_origin": "it is shifted by (0, 0, 40) mm (to the right, front and head)",
    "17_nifti_spacing": "its spacing is (2.5, 0.7, 0.7), the image's (5, 1.5, 1.5) mm (slices, H, W)",
}
VOLUMES = {
    "17_nifti_255": {"label_255": [1, 2]},
    "17_nifti_msd": {"spleen": [1], "other": [2]},
    "17_nifti_neg1": {"label_1": [1]},
    **{f"17_nifti_{mess}": {"label_1": [1], "label_2": [2]} for mess in ("neg", "4d1", "float", "slope")},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    code = "import runpy, sys; [runpy.run_path(path) for path in sys.argv[2:]]"
    scripts = map(str, sorted(CASES.glob("*/make.py")))
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(folder), *scripts], check=True)
    return folder


def made(root: Path, folder: Path, answers: dict[str, str]) -> Path:
    write_environment(root, folder, answers)
    return folder


@pytest.mark.parametrize("name", RIGHT)
def test_masks_are_right(name, drawn, tmp_path, capsys):
    right, root = RIGHT[name], drawn / name
    env = made(root, tmp_path / "mine", right.answers)
    assert right.told in capsys.readouterr().out
    manifest, findings, names = processed(env, root)
    compare(right, manifest, names, root)
    assert set(findings["rule"]) == right.findings, findings


def compare(right: Right, manifest: pd.DataFrame, names: list[str], root: Path) -> None:
    numbers = range(right.number) if isinstance(right.number, int) else right.number
    truth = {right.file(i): right.masks(i) for i in numbers}
    files = [os.path.relpath(path, root) for path in manifest["path"]]
    assert sorted(files) == sorted(truth)
    shown = {name for masks in truth.values() for name, mask in masks.items() if mask.any()}
    assert shown <= set(names) <= set(next(iter(truth.values()))) | shown
    for file, row in zip(files, manifest.to_dict("records"), strict=True):
        for name, mask in zip(names, read_masks(row, names), strict=True):
            np.testing.assert_array_equal(mask == 1, truth[file][name], err_msg=f"{file} {name}")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name, drawn, tmp_path):
    with pytest.raises(ValueError, match=re.escape(REFUSED[name])):
        made(drawn / name, tmp_path / "mine", {})
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", UNUSABLE)
def test_volumes_that_cannot_be_used_say_why(name, drawn, tmp_path):
    env = made(drawn / name, tmp_path / "mine", {})
    with pytest.raises(Exception, match="none of its 4 cases can be used") as error:
        environment(env, drawn / name)
    assert UNUSABLE[name] in str(error.value)


@pytest.mark.parametrize("name", VOLUMES)
def test_slices_show_their_labels(name, drawn, tmp_path):
    env = made(drawn / name, tmp_path / "mine", {})
    manifest, findings, names = processed(env, drawn / name)
    assert (len(manifest), len(findings)) == (24, 0)
    assert names == list(VOLUMES[name])
    for row in manifest.to_dict("records"):
        label = voxels(int(row["group"][-2:].strip("_")))[:, :, 5 - int(row["frame"])]  # from head to feet
        # both show the patient's right on the right and the front up
        seen = label[::-1].T if name == "17_nifti_neg" else label[:, ::-1].T
        for values, mask in zip(VOLUMES[name].values(), read_masks(row, names), strict=True):
            np.testing.assert_array_equal(mask == 1, np.isin(seen, values))


@pytest.mark.parametrize(("name", "number", "masks"), [
    ("17_nifti_2d", 6, lambda i: values(("label_1", "label_2"), voxels(i)[:, ::-1, 3].T)),
    ("17_nnunet_png255", 12, lambda i: values(["vessel"], scene(i, classes=1))),
])  # fmt: skip
def test_flat_cases_are_slices(name, number, masks, drawn, tmp_path):
    env = made(drawn / name, tmp_path / "mine", {})
    manifest, findings, names = processed(env, drawn / name)
    assert (len(manifest), len(findings)) == (number, 0)
    for i, row in enumerate(manifest.sort_values("image_id").to_dict("records")):
        truth = masks(i)
        assert names == list(truth)
        np.testing.assert_array_equal(read_masks(row, names) == 1, list(truth.values()))


def test_a_broken_annotation_can_be_left_out_alone(drawn, tmp_path):
    root = drawn / "04_coco_mixed"
    env = made(root, tmp_path / "mine", {})
    catalog, line = env / "catalog.yml", "  images: images\n"
    text = catalog.read_text()
    assert line in text
    catalog.write_text(text.replace(line, line + "  invalid_annotations: drop_annotation\n"))
    manifest, findings, names = processed(env, root)
    compare(Right(lambda i: f"images/{i:012d}.jpg", mixed), manifest, names, root)
    assert list(findings["rule"]) == ["unusable_annotation"] * 2


@pytest.mark.parametrize(("name", "sizes"), [
    ("26_few_3", {"train": 6, "val": 6, "test": 6}), ("26_few_4", {"train": 12, "val": 6, "test": 6}),
    ("13_names_split", {"train": 9, "val": 3}), ("15_coco_trainval", {"train": 8, "val": 4}),
])  # fmt: skip
def test_no_split_is_empty(name, sizes, drawn, tmp_path):
    env = made(drawn / name, tmp_path / "mine", {})
    manifest, _, _ = processed(env, drawn / name, draw_splits=True)
    assert manifest["split"].value_counts().to_dict() == sizes


def test_a_list_with_a_byte_order_mark_names_all_its_images(drawn):
    table, _ = find_images(drawn / "25_lists/list.txt")
    assert [Path(path).name for path in table["path"]] == ["frame_0.png", "frame_1.png"]


def test_every_input_is_tested(drawn):
    other = {"17_nifti_2d", "17_nnunet_png255"}
    known = other | {*RIGHT, *REFUSED, *UNUSABLE, *VOLUMES, "25_lists"}
    assert {path.name for path in drawn.iterdir() if not path.name.endswith("_data")} == known
