"""The pipeline `select` on drawn images, and training's use of what it wrote."""

import cv2
import numpy as np
import pytest

from seg_pipeline.params import SelectParams, TrainingParams
from seg_pipeline.pipelines.select import nodes
from seg_pipeline.pipelines.training.nodes import _with_pseudo_labels


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        noise = cv2.resize(rng.integers(0, 256, (5, 6), dtype=np.uint8), (48, 40))
        cv2.imwrite(str(tmp_path / f"{name}.png"), noise)
    return tmp_path


def test_images_are_ranked_and_their_pseudo_labels_join_the_train_split(folder, manifest, checkpoint, caplog):
    (folder / "notes.md").touch()
    params = SelectParams(
        images=str(folder), number=2, pseudo_labels=True, confidence=0.501, num_workers=0, device="cpu"
    )
    manifest = manifest.assign(fold=np.where(manifest["split"] == "test", -1, 0))
    table, page = nodes.rank_images(manifest, checkpoint, None, params)
    assert table["rank"].dropna().tolist() == [1, 2]
    assert sorted(table["image_id"]) == ["a", "b", "c"]
    assert table["reason"].str.startswith("Disagreement between the image and its mirrored view: percentile ").all()
    assert page.count("data:image/jpeg") == 2
    assert f"1 file of {folder} skipped: no known image suffix" in caplog.messages
    found = nodes.write_pseudo_labels(manifest, checkpoint, None, params)
    rows = manifest[manifest["split"] != "test"]
    joined = _with_pseudo_labels(rows, found, TrainingParams(pseudo_labels=True))
    assert joined.groupby("split").size().to_dict() == {"train": 13, "val": 3}
    assert _with_pseudo_labels(rows, found, TrainingParams()) is rows


def test_images_at_an_address_are_ranked_as_those_of_a_folder(folder, manifest, checkpoint):
    import fsspec

    for file in folder.iterdir():
        fsspec.filesystem("memory").pipe(f"/to_rank/{file.name}", file.read_bytes())
    here, there = (
        nodes.rank_images(manifest, checkpoint, None, SelectParams(images=one, number=2, num_workers=0, device="cpu"))
        for one in (str(folder), "memory://to_rank")
    )
    assert there[0]["path"].str.startswith("memory://to_rank/").all()
    assert there[0].drop(columns="path").equals(here[0].drop(columns="path"))
    assert there[1].count("data:image/jpeg") == 2


def test_without_pseudo_labels_training_says_what_to_run(manifest, checkpoint):
    none = nodes.write_pseudo_labels(manifest, checkpoint, None, SelectParams())
    assert none.empty
    for found in (None, none):
        with pytest.raises(
            ValueError, match=r"no pseudo-labels exist: run `kedro run --pipeline select --params select\.im"
        ):
            _with_pseudo_labels(manifest, found, TrainingParams(pseudo_labels=True))
