"""Nodes of data_processing that do more than call one function."""

import pandas as pd
import pytest
from pydantic import ValidationError

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DataProcessingParams, DatasetParams
from seg_pipeline.pipelines.data_processing import create_pipeline, nodes

PARAMS = {"annotations": {"mask_format": "files"}}


def test_splits_and_folds_of_the_file_names_reach_the_manifest():
    images = pd.DataFrame(
        {
            "image_id": list("abcde"),
            "group": list("abcde"),
            "series": list("abcde"),
            "frame": 0,
            "content_hash": list("abcde"),
            "intensity_min": 0,
            "intensity_max": 9,
            "mask_x": "",
            "area_x": [1, 0, 1, 1, 1],
            "split": ["train", "test", "train", "valid", "valid"],
            "fold": ["2", "1", "3", "1", "2"],
        }
    )
    params = DataProcessingParams(**PARAMS)
    manifest, train_val, findings = nodes.check_splits(images, nodes.assign_splits(images, None, params, 0), params)
    assert manifest["split"].tolist() == ["train", "test", "train", "val", "val"]
    assert manifest["fold"].tolist() == [1, -1, 2, 0, 1]
    assert train_val["image_id"].tolist() == list("acde")
    assert findings["reason"].tolist() == ["none of the 1 test images shows x; its scores there are undefined"]


@pytest.mark.parametrize("name", ["(none)", "(ignore)", "no mask"])
def test_a_class_must_not_have_a_name_with_a_meaning_of_its_own(name):
    with pytest.raises(ValidationError, match="are reserved; choose others and keep the `value`s"):
        DatasetParams(task="multilabel", classes=["a", name])
    assert DatasetParams(task="multilabel", classes=["ignore", "NA", "share"]).names == ["ignore", "NA", "share"]


@pytest.mark.fault(
    scenario="files arrive while the run reads the folder",
    command="kedro run --pipeline data_processing",
    outcome="findings; the next run takes them",
    review="data 13",
)
def test_files_are_listed_for_the_findings_page_as_when_the_run_began():
    pipeline = create_pipeline()
    (late,) = (node for node in pipeline.nodes if node.name == "find_late_files")
    assert late.inputs == ["listed_files", "image_files", "measured_images"]
    users = {node.name for node in pipeline.nodes if "image_files" in node.inputs}
    assert users == {"merge_files", "find_late_files"}
    listed = pd.DataFrame({"image_id": ["a"], "file": ["a.png"], "path": ["/x/a.png"]})
    now = pd.concat([listed, listed.assign(image_id="b", file="b.png")], ignore_index=True)
    assert nodes.find_late_files(listed, now, listed)["file"].tolist() == ["b.png"]


def test_parts_of_the_measurements_stay_until_the_whole_is_saved(tmp_path, monkeypatch):
    """Kedro saves what a node yields before it asks for more."""
    part = tmp_path / "parts" / "part-00000.parquet"
    part.parent.mkdir()
    table = pd.DataFrame({"key": ["k"], "found": [""]})
    table.to_parquet(part)
    monkeypatch.setattr(seg.manifest, "measure_rows", lambda *_, **__: table)
    monkeypatch.setattr(seg.manifest, "with_reading", lambda images, *_, **__: images)
    given = DatasetParams(task="multilabel", classes=["a"])
    measured = nodes.measure_images(table, None, part.parent, given, DataProcessingParams(**PARAMS))
    assert next(measured) is table
    assert part.exists()
    assert list(measured) == []
    assert not part.parent.exists()


def test_how_well_annotators_agree_is_kept(caplog):
    caplog.set_level("INFO")
    pairs = '{"annotators": 2, "pixels": 100, "pairs": {"7": [[10, 10, 0]], "else": [[1, 0, 0]]}}'
    metadata = pd.DataFrame(
        {"image_id": ["a", "a", "b"], "class": ["7", "7", "7"], "mask": ["1 2", "3 4", "1 3"],
         "compared": [pairs, None, None]}
    )  # fmt: skip
    dataset = DatasetParams(task="multilabel", classes=[{"name": "x", "value": 7}])
    columns = {"image_id": "image_id", "class": "class", "mask": "mask"}
    given = {"mask_format": "rle", "columns": columns, "rle_order": "C", "rle_first": 1, "multiple_masks": "instances"}
    *_, agreement = nodes.clean_annotations(metadata, dataset, DataProcessingParams(annotations=given))
    ((image_id, name, number, dice, kappa),) = agreement.itertuples(index=False)
    assert (image_id, name, number) == ("a", "x", 2)
    assert dice == pytest.approx(20 / 30)
    assert kappa == pytest.approx((0.9 - 0.74) / (1 - 0.74))  # 20 and 10 of 100 pixels: 0.2 * 0.1 + 0.8 * 0.9 by chance
    assert "several people annotated 1 images; mean Dice between two of them: 0.667" in caplog.messages
