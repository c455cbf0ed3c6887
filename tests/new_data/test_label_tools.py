"""new-data finds the annotations of each label tool, and data_processing reads their masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.new_data.test_zoo import processed, write_environment
from tests.new_data.zoo import label_map, scene

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.command import choose
from seg_pipeline.new_data.scanning import scan
from seg_pipeline.segmentation.formats.label_tools import WRITERS, Picture, Style, write_annotations
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest.table import read_masks


def draw(root: Path, tool: str) -> None:
    """Six images with vein and artery, as the tool exports them."""
    pictures = []
    for index in range(6):
        image, masks = scene(index)
        name = f"{'train' if index < 4 else 'val'}/p {index}.png"
        folder = root / ("supervisely/dataset/img" if tool == "supervisely" else "images")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
        pictures.append(Picture(name, f"images/{name}", label_map(masks).shape, masks))
    colours = {"vein": "#0000ff", "artery": "#ff0000"}
    if tool == "supervisely":  # one folder of images per data set
        pictures = [one._replace(file=one.file.replace("/", " ")) for one in pictures]
        for path in [*(root / "supervisely/dataset/img").rglob("*.png")]:
            path.rename(root / "supervisely/dataset/img" / f"{path.parent.name} {path.name}")
        for name in ("train", "val"):
            (root / "supervisely/dataset/img" / name).rmdir()
    write_annotations([tool], root, pictures, colours, Style("masks", polygon_iou=1.0))
    if tool == "label_studio":
        path = root / "label_studio.json"
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))


def made(root: Path, folder: Path, answers: dict[str, str]):
    write_environment(root, folder, answers)
    return processed(folder, root)


@pytest.mark.parametrize("tool", WRITERS)
def test_an_export_becomes_an_environment(tool, tmp_path, capsys):
    draw(tmp_path / "raw", tool)
    manifest, findings, names = made(tmp_path / "raw", tmp_path / "mine", {})
    assert findings.empty, findings
    assert sorted(names) == ["artery", "vein"]
    assert len(manifest) == 6
    for row in manifest.to_dict("records"):
        _, masks = scene(int(Path(row["path"]).stem[-1]))
        for name, mask in zip(names, read_masks(row, names), strict=True):
            np.testing.assert_array_equal(mask == 1, masks[name])
    told = capsys.readouterr().out
    assert ("COCO annotations in coco.json" if tool == "coco" else f"annotations of {tool} in ") in told
    if tool != "supervisely":
        assert manifest["split"].value_counts().to_dict() == {"train": 4, "val": 2}


@pytest.mark.parametrize("separator", ["  ", "\t"])
def test_yolo_with_other_blanks_and_an_image_without_labels(separator, tmp_path):
    for index in range(3):
        (tmp_path / "raw/images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(index)[0]).save(tmp_path / f"raw/images/{index}.png")
    (tmp_path / "raw/labels").mkdir()
    for index in range(2):
        words = [str(index), "0", "0", "0.5", "0", "0.5", "1", "0", "1"]
        (tmp_path / f"raw/labels/{index}.txt").write_text(separator.join(words))
    (tmp_path / "raw/data.yaml").write_text("names: [yes, no ]\n")
    manifest, findings, names = made(tmp_path / "raw", tmp_path / "mine", {})
    assert names == ["no", "yes"]
    assert manifest["image_id"].tolist() == ["0", "1"]
    assert findings["image_id"].tolist() == ["2"]
    assert "set `empty_images: negative` in the catalog" in findings["reason"].item()


def test_what_labelme_ignores_is_no_class(tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    for index in range(3):
        image, masks = scene(index)
        Image.fromarray(image).save(tmp_path / f"raw/{index}.png")
        ends = {name: (np.argwhere(mask).min(0), np.argwhere(mask).max(0)) for name, mask in masks.items()}
        shapes = [
            {"label": name, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], "shape_type": "polygon"}
            for name, ((y0, x0), (y1, x1)) in zip(("vein", "__ignore__"), ends.values(), strict=True)
        ]
        content = {"shapes": shapes, "imagePath": f"{index}.png", "imageHeight": 16, "imageWidth": 24}
        (tmp_path / f"raw/{index}.json").write_text(json.dumps(content, default=int))
    manifest, findings, names = made(tmp_path / "raw", tmp_path / "mine", {})
    assert (names, len(findings)) == (["vein"], 0)
    for row in manifest.to_dict("records"):
        masks = scene(int(row["image_id"]))[1]
        (read,) = read_masks(row, names)
        np.testing.assert_array_equal(read, np.where(masks["artery"], IGNORE, masks["vein"]))


def test_classes_that_differ_in_case_alone_are_told(tmp_path, capsys):
    draw(tmp_path / "raw", "labelme")
    path = tmp_path / "raw/labelme/val/p 4.json"
    path.write_text(path.read_text().replace('"vein"', '"Vein"'))
    made(tmp_path / "raw", tmp_path / "mine", {})
    assert "vein and Vein differ in upper and lower case alone" in capsys.readouterr().out


def test_names_of_classes_have_no_outer_blanks(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for index, label in enumerate(["vein", "vein ", " vein"]):
        Image.fromarray(scene(index)[0]).save(raw / f"{index}.png")
        shape = {"label": label, "points": [[1, 1], [4, 1], [4, 4]], "shape_type": "polygon"}
        content = json.dumps({"shapes": [shape], "imagePath": f"{index}.png"})
        (raw / f"{index}.json").write_text("\ufeff" + content if index else content, encoding="utf-8")
    manifest, findings, names = made(raw, tmp_path / "mine", {})
    assert (names, len(manifest), len(findings)) == (["vein"], 3, 0)
    assert (manifest["area_vein"] > 0).all()


def test_several_annotators_are_a_question(tmp_path):
    draw(tmp_path / "raw", "label_studio")
    path = tmp_path / "raw/label_studio.json"
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"] *= 3
    path.write_text(json.dumps(tasks))
    with pytest.raises(ValueError, match=r"(?s)p 0 \(3 times: unnamed\)\. What counts\?.*--annotators latest"):
        made(tmp_path / "raw", tmp_path / "mine", {})
    manifest, findings, _ = made(tmp_path / "raw", tmp_path / "mine", {"annotators": "vote"})
    assert (len(manifest), len(findings)) == (6, 0)
    assert "annotators: vote" in (tmp_path / "mine/catalog.yml").read_text()


def test_annotations_without_a_mask_are_refused(tmp_path):
    Image.fromarray(scene(0)[0]).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"shapes": [], "imagePath": "a.png"}')
    with pytest.raises(ValueError, match="1 annotated images, but no shape is a mask of a class"):
        choose(scan(tmp_path), Asker({}, interactive=False))
