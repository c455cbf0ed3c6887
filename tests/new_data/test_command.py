"""Each form of data: a tiny folder gives an environment with which data_processing runs."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

from seg_pipeline.new_data.command import main
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.phantom import write_example, write_phantom

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
CLASSES = ["large_bowel", "small_bowel", "stomach"]


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """conf/ with base alone."""
    folder = tmp_path_factory.mktemp("project") / "conf"
    shutil.copytree(ROOT / "conf" / "base", folder / "base")
    shutil.copy(ROOT / "conf" / "logging.yml", folder)
    return folder


@pytest.fixture
def make(conf, monkeypatch, capsys):
    """Runs the command without questions; status, its words and the parameters that it wrote."""
    monkeypatch.chdir(ROOT)

    def run(folder, *options, name="mine"):
        status = main([str(folder), name, "--yes", "--overwrite", "--conf", str(conf), *options])
        told = capsys.readouterr()
        path = conf / name / "parameters.yml"
        return status, told.out + told.err, yaml.safe_load(path.read_text()) if path.exists() else None

    return run


def draw(folder: Path, name: str, image: np.ndarray) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def scan(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour image (40, 56, 3) and bool masks (2, 40, 56) of a box and a bar that do not touch."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 40, 56), dtype=bool)
    masks[0, 4 + seed : 18 + seed, 5:20] = True
    masks[1, 8:12, 30 + seed : 50] = True
    grey = rng.normal(60, 5, (40, 56)) + 70 * masks[0] + 120 * masks[1]
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), masks


def scans(number: int = 9):
    """Names of three groups with three frames each, images and masks."""
    for index in range(number):
        yield f"p{index // 3}_{index % 3:03d}", *scan(index)


def manifest_of(told: str) -> tuple[int, int]:
    """Usable images, and images tried."""
    found = re.search(r"(\d+) of (\d+) images of \d+ groups are usable", told)
    assert found, told
    return int(found[1]), int(found[2])


OF_FORM = {
    "rle_columns": (["--rle-first", "0"], "rle", "multilabel", CLASSES),
    "folders": ([], "indexed", "multiclass", ["class_1", "class_2", "class_3"]),
    "colours": ([], "indexed", "multiclass", ["colour_2850dc", "colour_28b43c", "colour_dc2828"]),
    "instances": ([], "files", "multilabel", CLASSES),
    "coco": ([], "rle", "multilabel", CLASSES),
    "nifti": ([], "rle", "multiclass", ["label_1", "label_2", "label_3"]),
    "nnunet": ([], "rle", "multiclass", CLASSES),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", OF_FORM)
def test_a_folder_of_each_form_gives_an_environment_that_runs(form, make, tmp_path):
    options, expected, task, classes = OF_FORM[form]
    write_example(tmp_path / "raw", layout=form, num_cases=4, days_per_case=1, frames_per_series=[6, 6])
    status, told, given = make(tmp_path / "raw", *options)
    assert status == 0, told
    came, tried = manifest_of(told)
    assert came == tried >= 10
    assert given["data_processing"]["annotations"]["mask_format"] == expected
    assert given["dataset"]["task"] == task
    assert [one["name"] for one in given["dataset"]["classes"]] == classes
    assert "rule" not in told


def test_run_lengths_of_uw_madison_have_their_order_from_the_data(make, tmp_path):
    write_phantom(tmp_path / "raw", num_cases=4, days_per_case=1, frames_per_series=[6, 6])
    status, told, given = make(tmp_path / "raw")
    assert status == 0, told
    annotations = given["data_processing"]["annotations"]
    assert (annotations["rle_order"], annotations["rle_first"]) == ("C", 1)
    assert "objects along rows (C)" in told
    assert "better in the other order" in told


def test_an_index_base_that_nothing_tells_has_to_be_said(make, tmp_path):
    write_example(tmp_path / "raw", layout="rle_columns", num_cases=4, days_per_case=1, frames_per_series=[6, 6])
    status, told, given = make(tmp_path / "raw", name="unsaid")
    assert (status, given) == (1, None)
    assert "Where do run lengths count from?" in told
    assert "--rle-first 0: the first pixel is 0" in told


def test_masks_of_one_class_in_folders_of_equal_names(make, tmp_path):
    for name, image, masks in scans():
        draw(tmp_path / "images", f"{name}.jpg", image)
        draw(tmp_path / "masks", f"{name}.png", masks[0].astype(np.uint8) * 255)
    status, told, given = make(tmp_path)
    assert status == 0, told
    assert manifest_of(told) == (9, 9)
    assert given["dataset"]["classes"] == [{"name": "foreground", "value": 255}]
    assert given["data_processing"]["annotations"]["background_values"] == [0]
    assert given["training"]["input"]["normalisation"] == "encoder"  # colour


@pytest.mark.slow
def test_a_binary_mask_a_class_named_by_folder_or_by_the_end_of_the_name(make, tmp_path):
    for name, image, masks in scans():
        for way in ("folder", "name"):
            draw(tmp_path / way / "images", f"{name}.png", image)
        for label, mask in zip(("box", "bar"), masks, strict=True):
            draw(tmp_path / "folder" / "masks" / label, f"{name}.png", mask.astype(np.uint8) * 255)
            draw(tmp_path / "name" / "masks", f"{name}_{label}.png", mask.astype(np.uint8) * 255)
    for way in ("folder", "name"):
        status, told, given = make(tmp_path / way)
        assert status == 0, told
        assert manifest_of(told) == (9, 9)
        assert [one["name"] for one in given["dataset"]["classes"]] == ["bar", "box"]
        assert given["dataset"]["task"] == "multiclass"


def test_a_mask_beside_its_image_with_void_pixels(make, tmp_path):
    for name, image, masks in scans():
        draw(tmp_path, f"{name}.png", image)
        values = masks[0] + 2 * masks[1].astype(np.uint8)
        values[:, -3:] = 255
        draw(tmp_path, f"{name}_mask.png", values)
    status, told, given = make(tmp_path)
    assert status == 0, told
    assert given["data_processing"]["annotations"]["ignore_values"] == [255]
    assert [one["value"] for one in given["dataset"]["classes"]] == [1, 2]


def binary(mask):
    return mask.astype(np.uint8) * 255


def draw_objects(folder):
    for name, image, masks in scans():
        draw(folder / name, f"images/{name}.png", image)
        for number, mask in enumerate(masks):
            draw(folder / name, f"masks/{name[::-1]}{number}abc.png", binary(mask))


def draw_beside(folder):
    for name, image, masks in scans():
        draw(folder, f"{name}.png", image)
        draw(folder, f"{name}_segmentation.png", binary(masks[0]))


def draw_splits(folder):
    for number, (name, image, masks) in enumerate(scans()):
        split = "train" if number < 6 else "val"
        draw(folder, f"images/{split}/{name}.jpg", image)
        draw(folder, f"labels/{split}/{name}.png", masks[0] + 2 * masks[1].astype(np.uint8))


@pytest.mark.parametrize(
    ("write", "classes"),
    [(draw_objects, ["object"]), (draw_beside, ["foreground"]), (draw_splits, ["class_1", "class_2"])],
)
def test_other_ways_to_keep_images_and_masks_apart(write, classes, make, tmp_path):
    write(tmp_path)
    status, told, given = make(tmp_path)
    assert status == 0, told
    assert manifest_of(told) == (9, 9)
    assert "none; all inputs are valid" in told  # no mask is taken for an image, and no image for a mask
    assert [one["name"] for one in given["dataset"]["classes"]] == classes


def save_volume(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


@pytest.mark.parametrize(
    "names", [("{}_ct", "{}_seg"), ("{}/imaging", "{}/segmentation"), ("{0}/{0}_t1", "{0}/{0}_seg")]
)
def test_volumes_beside_their_labels(names, make, tmp_path):
    for case in range(3):
        labels = np.zeros((20, 24, 6), dtype=np.uint8)
        labels[5 : 12 + case, 6:14, 1:5], labels[14:18, 3:9, 2:4] = 1, 4
        image = np.random.default_rng(case).integers(-900, 900, labels.shape).astype(np.int16)
        for name, values in zip(names, (image, labels), strict=True):
            save_volume(tmp_path / f"{name.format(f'case{case}')}.nii.gz", values)
    status, told, given = make(tmp_path)
    assert status == 0, told
    assert manifest_of(told) == (18, 18)
    assert "CT, kept as Hounsfield units + 1024" in told
    assert [one["value"] for one in given["dataset"]["classes"]] == [1, 4]


def test_a_table_without_a_class_column_is_explained(make, tmp_path):
    for name, image, _ in scans():
        draw(tmp_path / "train", f"{name}.png", image)
    table = pd.DataFrame({"ImageId": [name for name, _, _ in scans()], "EncodedPixels": "5 3 60 4"})
    table.to_csv(tmp_path / "train.csv", index=False)
    status, told, _ = make(tmp_path, name="classless")
    assert status == 1
    assert "ImageId names images and EncodedPixels masks, but none names classes; add one" in told


def test_a_table_of_run_lengths_whose_ids_carry_the_ending(make, tmp_path):
    rows = []
    for name, image, masks in scans():
        draw(tmp_path / "train", f"{name}.png", image)
        rows += [(f"{name}.png", label, encode_rle(mask, order="F")) for label, mask in zip("ab", masks, strict=True)]
    pd.DataFrame(rows, columns=["ImageId", "Label", "Pixels"]).to_csv(tmp_path / "t.csv", index=False)
    status, told, given = make(tmp_path, "--rle-first", "1")
    assert status == 0, told
    assert manifest_of(told) == (9, 9)
    assert given["data_processing"]["annotations"]["rle_order"] == "F"


def test_a_folder_of_no_known_form_says_what_was_looked_for(make, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    status, told, _ = make(tmp_path, name="none")
    assert status == 1
    assert "no known layout found in 0 image files" in told
    assert "docs/how-to/own_data.md" in told


def test_an_environment_is_not_overwritten_unasked(conf, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    assert main([str(tmp_path), "base", "--yes", "--conf", str(conf)]) == 1
    assert "this environment exists already; choose another name, or add --overwrite" in capsys.readouterr().err


def test_questions_are_asked_on_a_terminal_and_answers_taken(conf, monkeypatch, capsys, tmp_path):
    for name, image, masks in scans():
        draw(tmp_path / "images", f"{name}.png", image)
        for label, mask in zip(("box", "bar"), masks, strict=True):
            draw(tmp_path / "masks" / label, f"{name}.png", mask.astype(np.uint8) * 255)
    monkeypatch.chdir(ROOT)
    terminal = io.StringIO("multilabel\n\nnone\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert main([str(tmp_path), "asked", "--no-check", "--conf", str(conf)]) == 0
    told = capsys.readouterr().out
    assert "multiclass: one class per pixel  [proposed]" in told
    assert yaml.safe_load((conf / "asked/parameters.yml").read_text())["dataset"]["task"] == "multilabel"
    assert "(?P<group>" not in (conf / "asked/catalog.yml").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data is not beside this checkout")
@pytest.mark.parametrize(
    ("data", "options", "form"),
    [
        ("camvid", [], "files"),
        ("camvid", ["--layout", "pictures"], "indexed"),
        ("abdomen", [], "rle"),
    ],
)
def test_real_data(data, options, form, make):
    status, told, given = make(SHARED / data, *options)
    assert status == 0, told
    came, tried = manifest_of(told)
    assert came == tried >= 18
    assert given["data_processing"]["annotations"]["mask_format"] == form
    if data == "camvid":
        assert [one["name"] for one in given["dataset"]["classes"]][:3] == ["sky", "building", "pole"]
        assert given["dataset"]["unlabelled_pixels"] == "ignore"
