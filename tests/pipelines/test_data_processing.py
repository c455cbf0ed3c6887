"""Nodes of data_processing that do more than call one function."""

from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from seg_pipeline import segmentation as seg
from seg_pipeline.datasets import atomic
from seg_pipeline.datasets.atomic import CSVDataset, ParquetDataset
from seg_pipeline.params import DataProcessingParams, DatasetParams
from seg_pipeline.pipelines.data_processing import create_pipeline, nodes
from seg_pipeline.segmentation.manifest import metadata, table_forms
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.phantom import write_phantom
from seg_pipeline.segmentation.storage import stored_columns

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
    assert late.inputs == ["listed_files", "image_files", "image_findings"]
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


def process(raw: Path, out: Path) -> dict[str, pd.DataFrame]:
    """The tables that data_processing makes of a phantom, saved and loaded between nodes."""
    given = {
        "annotations": {
            "mask_format": "rle",
            "rle_order": "C",
            "columns": {"image_id": "id", "class": "class", "mask": "segmentation"},
        }
    }
    pattern = r"(?P<group>case\d+)/(?P<series>case\d+_day\d+)/scans/slice_(?P<slice>(?P<frame>\d+))_.*\.png"
    known = {
        "raw_metadata": CSVDataset(
            filepath=(raw / "train.csv").as_posix(),
            load_args={"dtype": "str", "keep_default_na": False, "na_values": [""]},
        ).load(),
        "image_files": index_files(
            raw / "train", glob="**/*.png", pattern=pattern, columns={"image_id": "{series}_slice_{slice}"}
        ),
        "mask_files": pd.DataFrame(),
        "excluded_images": None,
        "predefined_splits": None,
        "previous_measurements": None,
        "measured_parts": out / "parts",
        "params:dataset": DatasetParams(task="multilabel", classes=["large_bowel", "small_bowel", "stomach"]),
        "params:data_processing": DataProcessingParams(**given),
        "params:seed": 1,
    }
    memory = {name: MemoryDataset(data) for name, data in known.items()} | {
        name: MemoryDataset() for name in ("num_rows_read", "findings_page")
    }
    pipeline = create_pipeline()
    tables = {
        name: ParquetDataset(filepath=(out / f"{name}.parquet").as_posix())
        for name in pipeline.all_outputs() - set(memory)
    }
    SequentialRunner().run(pipeline, DataCatalog(memory | tables))
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in tables}


@pytest.mark.slow
def test_masks_that_stay_on_disk_give_the_same_tables(tmp_path, monkeypatch):
    write_phantom(
        tmp_path / "raw", num_cases=4, days_per_case=1, frames_per_series=(6, 6), size=64, other_size=(64, 72)
    )
    in_memory = process(tmp_path / "raw", tmp_path / "memory")
    for name, least in (("LEAST_ROWS", 0), ("BLOCK", 4), ("GROUP", 8)):
        monkeypatch.setattr(stored_columns, name, least)
    monkeypatch.setattr(atomic, "BLOCK", 7)
    monkeypatch.setattr(table_forms, "BLOCK", 5)
    monkeypatch.setattr(metadata, "PART_ROWS", 16)
    stored = process(tmp_path / "raw", tmp_path / "stored")
    assert len(stored["manifest"]) > 16
    assert len(list((tmp_path / "stored").glob(".*.arrow"))) == 8
    assert not list((tmp_path / "memory").glob(".*.arrow"))
    for name, table in in_memory.items():
        pd.testing.assert_frame_equal(stored[name], table, obj=name)
