"""Each form of data: a tiny folder gives an environment with which data_processing runs."""

import argparse
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
from kedro.io import DatasetError

from seg_pipeline.new_data import checking, command
from seg_pipeline.new_data.command import main
from seg_pipeline.new_data.plan import Classes, Plan
from seg_pipeline.new_data.writing import whole_input
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

    def run(folder, *options, name="mine", sheet=False):
        if not sheet:  # drawing takes 2 s
            monkeypatch.setattr(checking, "_sheet", lambda _: b"")
        status = main([str(folder), name, "--yes", "--overwrite", "--conf", str(conf), *options])
        told = capsys.readouterr()
        path = conf / name / "parameters.yml"
        return status, told.out + told.err, yaml.safe_load(path.read_text()) if path.exists() else None

    return run


def binary(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255


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
    assert given["dataset"].get("objects", False) == (form in {"instances", "coco"})
    assert [one["name"] for one in given["dataset"]["classes"]] == classes
    assert "rule" not in told


@pytest.mark.slow
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


def save_volume(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


@pytest.mark.slow
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


def test_a_folder_of_no_known_form_says_what_was_looked_for(make, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    status, told, _ = make(tmp_path, name="none")
    assert status == 1
    assert "no known layout found (other files: 1)" in told
    assert "docs/how-to/own_data.md" in told


def draw_parquet_index(folder):
    draw(folder, "images/a.png", scan(0)[0])
    table = pd.DataFrame({"rle": ["1 2"]}, index=pd.Index(["a"], name="image_id"))
    table.to_parquet(folder / "t.parquet")


def draw_more_values_than_names(folder):
    draw(folder, "images/a.png", scan(0)[0])
    (folder / "t.csv").write_text("image_id,rle\na,1 2,\n")


def draw_classification(folder):
    for name, image, _ in scans():
        draw(folder, f"train/{'cat' if name < 'p1_002' else 'dog'}/{name}.jpg", image)


def draw_table_of_others(folder):
    draw(folder, "images/a.png", scan(0)[0])
    pd.DataFrame({"id": ["x1", "x2"], "rle": ["1 2", "5 1"]}).to_csv(folder / "t.csv", index=False)


def draw_unreadable(folder):
    for name, image, masks in scans():
        draw(folder, f"images/{name}.png", image)
        (folder / f"images/{name}.png").write_bytes(b"not an image")
        draw(folder, f"masks/{name}.png", binary(masks[0]))


def draw_ids_as_jpeg(folder):
    for name, image, masks in scans():
        draw(folder, f"images/{name}.png", image)
        draw(folder, f"masks/{name}.jpg", masks[0] + 2 * masks[1].astype(np.uint8))


def draw_clashes(folder):
    for name, image, masks in scans():
        draw(folder, f"images/{name}.png", image)
        draw(folder, f"images/{name}.bmp", 255 - image)
        draw(folder, f"masks/{name}.png", binary(masks[0]))


OTHER_DATA = {
    "classification table": (
        "labels.csv",
        "image,label\na,cat\n",
        "labels.csv looks like labels of a classification s",
    ),
    "boxes in a table": ("b.csv", "image,xmin,ymin,xmax,ymax\na,1,2,3,4\n", "b.csv holds boxes (image, xmin, ymin, xm"),
    "boxes of VOC": ("Annotations/a.xml", "<annotation/>", "1 XML files, such as Annotations/a.xml: boxes"),
    "boxes of YOLO": ("labels/a.txt", "0 0.5 0.5 0.2 0.1\n", "labels/a.txt holds YOLO boxes"),
    "polygons of YOLO": ("labels/a.txt", "0 0.5 0.5 0.2 0.1 0.3 0.4\n", "labels/a.txt holds YOLO polygons"),
    "boxes of COCO": (
        "c.json",
        '{"images": [], "annotations": [{"bbox": [1, 2, 3, 4]}]}',
        "c.json is a COCO file of boxes: its annotations have no `segmentation`",
    ),
    "panoptic COCO": (
        "p.json",
        '{"images": [], "annotations": [{"file_name": "a.png", "segments_info": []}], "categories": []}',
        "p.json is a COCO file of panoptic segments, which are in PNG files; convert it to instances",
    ),
    "a table as JSON": (
        "t.json",
        '[{"id": "a", "rle": "1 2"}, {"id": "b", "rle": "5 1"}]',
        "t.json is a list of 2 entries (id, rle): if it is a table, write it as CSV or JSON Lines (.jsonl)",
    ),
    "no names of columns": (
        "t.csv",
        "a,5 2\na,5 1\n",
        "t.csv (columns a, 5 2): its first line holds data (a); put a line with the names of the columns before it",
    ),
    "CSV of VIA": (
        "via.csv",
        "filename,region_shape_attributes,region_attributes\na.png,{},{}\n",
        "via.csv is a CSV export of VIA, which is not read: choose Export Annotations (as json)",
    ),
    "VIA 3": (
        "via.json",
        '{"project": {}, "file": {}, "metadata": {}}',
        "via.json is a project of VIA 3, which is not read; JSON of VIA 2 and COCO are",
    ),
    "a video": ("a.mp4", "", "1 files (.mp4 .avi .mov .mkv) are videos; write their frames as images"),
    "arrays": ("a.npy", "", "are arrays; write each image and mask as PNG or TIFF"),
    "an archive": ("a.zip", "", "are archives; unpack them first"),
    "whole slides": ("a.svs", "", "are whole-slide images; write tiles"),
    "point clouds": ("a.ply", "", "are point clouds, which are no images"),
    "images alone": ("b.png", None, "there are 2 image files, but none is named as a mask: put masks in masks/"),
}


@pytest.mark.parametrize("kind", OTHER_DATA)
def test_other_data_is_called_by_its_name(kind, make, tmp_path):
    file, text, said = OTHER_DATA[kind]
    draw(tmp_path, "a.png", scan(0)[0])
    if text is None:
        draw(tmp_path, file, scan(1)[0])
    else:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    status, told, given = make(tmp_path, name="refused")
    assert (status, given) == (1, None)
    assert f"\n- {said}" in told or said in told.partition("known layout found")[2]


def test_a_folder_without_images_is_called_so(make, tmp_path):
    assert "there is no image in this folder or below it" in make(tmp_path, name="refused")[1]


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (draw_classification, "the folders cat, dog look like those of a classification set"),
        (
            draw_table_of_others,
            "t.csv (columns id, rle): rle holds masks, but no column names the images: id holds x1, x2; image files: "
            "images/a.png",
        ),
        (
            draw_parquet_index,
            "t.parquet: cannot be read as a table: its index (image_id) is no column; save it again after",
        ),
        (
            draw_more_values_than_names,
            "t.csv: cannot be read as a table: its lines have more values than its first line",
        ),
        (draw_unreadable, "images: none of the sampled images can be read"),
        (draw_ids_as_jpeg, "the masks are JPEG files and hold the values 0 to"),
        (
            draw_clashes,
            "9 of 9 masks, such as p0_000, fit several images (images/p0_000.bmp, images/p0_000.png); give the images "
            "different names",
        ),
    ],
)
def test_what_cannot_be_read_is_explained(write, reason, make, tmp_path):
    write(tmp_path)
    status, told, given = make(tmp_path, name="refused")
    assert (status, given) == (1, None)
    assert reason in told


def test_outside_the_project_nothing_is_written(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([str(tmp_path), "mine", "--yes"]) == 1
    assert "this is not the folder of the project: it needs pyproject.toml and conf/base" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_trial_says_what_the_run_would_of_images_without_a_row(make, tmp_path):
    folder = tmp_path / "pa${x}"
    rows = []
    for name, image, masks in scans():
        draw(folder / "train", f"{name}.png", image)
        rows += [(name, label, encode_rle(mask, order="C")) for label, mask in zip("ab", masks, strict=True)]
    pd.DataFrame(rows[:12], columns=["id", "class", "rle"]).to_csv(folder / "t.csv", index=False)
    status, told, given = make(folder, "--rle-first", "1", "--rle-order", "C", "--group", "none", sheet=True)
    assert status == 0, told
    assert manifest_of(told) == (6, 9)
    assert "3 of 9 images have no row: not annotated, so they are dropped (`images_without_row: drop`)" in told
    assert "images with a mask: a: 6, b: 6" in told
    shown = re.search(r"^Look at (.+/data/mine/new_data.png): do the masks fit the images", told, re.M)
    assert cv2.imread(shown[1]).shape[0] > 200  # a sheet of the images tried
    assert re.findall(r"^  kedro run --env mine(.*)$", told, re.M) == [" --pipelines data_processing,eda", ""]
    status, told, given = make(folder, "--rle-first", "1", "--rle-order", "C", "--images-without-row", "empty")
    assert manifest_of(told) == (9, 9)
    assert given["data_processing"]["annotations"]["images_without_row"] == "empty"


def test_an_environment_is_not_overwritten_unasked(conf, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    assert main([str(tmp_path), "base", "--yes", "--conf", str(conf)]) == 1
    assert "this environment exists already; choose another name, or add --overwrite" in capsys.readouterr().err


def type_in(monkeypatch, *lines: str) -> None:
    """What a user types at the questions, and then nothing."""
    terminal = io.StringIO("".join(f"{line}\n" for line in lines))
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)


@pytest.mark.parametrize(
    ("lines", "options", "names"),
    [
        (["cyst, tumour"], [], ["cyst", "tumour"]),
        (["cyst", "cyst, tumour"], [], ["cyst", "tumour"]),  # one name is asked again
        ([], [], ["class_1", "class_2"]),
        ([], ["--classes", "2=tumour,class_1=cyst"], ["tumour", "cyst"]),
        ([], ["--classes", "class_1"], ["class_1"]),
    ],
)
def test_classes_without_names_are_asked_for(lines, options, names, conf, monkeypatch, capsys, tmp_path):
    for name, image, masks in scans():
        draw(tmp_path / "images", f"{name}.png", image)
        draw(tmp_path / "masks", f"{name}.png", masks[0] + 2 * masks[1].astype(np.uint8))
    monkeypatch.chdir(ROOT)
    type_in(monkeypatch, *lines)
    given = [str(tmp_path), "named", "--overwrite", "--no-check", "--group", "1", "--conf", str(conf), *options]
    assert main(given) == 0
    told = capsys.readouterr().out
    found = yaml.safe_load((conf / "named/parameters.yml").read_text())["dataset"]["classes"]
    assert [one["name"] for one in found] == names
    assert {one["name"]: one["value"] for one in found}[names[0]] == (2 if names[0] == "tumour" else 1)
    question = "Nothing in the folder names the classes 1, 2. Their names, in this order, separated by commas?"
    assert (question in told) == (not options)
    assert ("  named: 2 tumour, 1 cyst\n" in told) == (names[0] == "tumour")
    assert ("  named: " in told) == ("class_1" not in names)


@pytest.mark.parametrize(
    ("heights", "widths", "expected"),
    [
        ([80], [96], ([96, 96], "pad")),  # 64 x 96 would stretch by 25 %
        ([128, 128], [128, 128], ([128, 128], "resize")),
        ([310], [360], ([224, 256], "resize")),  # 1.6 %
        ([360], [480], ([192, 256], "resize")),
        ([100, 120], [120, 100], ([128, 128], "pad")),
    ],
)
def test_no_image_is_stretched_by_more_than_five_percent(heights, widths, expected):
    assert whole_input(heights, widths) == expected


def test_questions_are_asked_on_a_terminal_and_answers_taken(conf, monkeypatch, capsys, tmp_path):
    for name, image, masks in scans():
        draw(tmp_path / "images", f"{name}.png", image)
        for label, mask in zip(("box", "bar"), masks, strict=True):
            draw(tmp_path / "masks" / label, f"{name}.png", mask.astype(np.uint8) * 255)
    monkeypatch.chdir(ROOT)
    type_in(monkeypatch, "both", "multilabel", "", "none")
    assert main([str(tmp_path), "asked", "--no-check", "--conf", str(conf)]) == 0
    told = capsys.readouterr().out
    assert (
        """
May a pixel belong to two classes? In 9 sampled images, classes share 0 pixels.
    multilabel  yes, classes may overlap
    multiclass  no, one class per pixel  [proposed]
  multilabel / multiclass [multiclass] >   'both' is none of these; type one of them, or Enter to accept
  multilabel / multiclass [multiclass] > """
        in told
    )
    assert (
        "\nThe masks cover 12% of the pixels. What are the other pixels?\n    background  nothing of interest  [p"
        in told
    )
    assert (
        """
Which images belong together? All images of one patient, drive or video must be in the same split, \
or the scores will be too good. The number says how many parts of a name such as p0_000 they share.
    1     3 groups (p0, p1, p2); the last number is the frame  [proposed]
    none  each of the 9 images is its own group; the names are only numbers, \
so check whether consecutive images are related
  1 / none [1] > """
        in told
    )
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


@pytest.mark.slow
def test_a_failed_trial_does_not_advise_to_resume_it(make, tmp_path):
    for folder, values in (("images", 90), ("labels", 1)):
        (tmp_path / folder).mkdir()
        volume = np.zeros((6, 5, 3), np.int16)
        volume[1, 2] = values
        for frame in ("p1_a", "p1_b"):
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / folder / f"{frame}.nii.gz")
    status, told, _ = make(tmp_path, "--group", "1")
    assert status == 1
    assert "data_processing failed: 1 group" in told  # one patient cannot be in three splits
    assert "--from-nodes" not in told


def test_a_failed_trial_names_the_folder_of_the_data(monkeypatch, tmp_path):
    def failing(*_):
        raise DatasetError(
            "Failed while loading data from dataset x.\n/tmp/seg_pipeline-ab1_/raw: none of its 3 cases fits"
        )

    monkeypatch.setattr("seg_pipeline.new_data.checking.check", failing)
    options = argparse.Namespace(name="mine", conf=tmp_path / "conf")
    plan = Plan(tmp_path / "scans", {}, Classes({}, "multilabel"), {}, [])
    told = f"{tmp_path}/scans: none of its 3 cases fits"
    with pytest.raises(ValueError, match=re.escape(told)):
        command._tried(options, plan)
