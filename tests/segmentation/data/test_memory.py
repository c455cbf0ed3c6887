import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.data import memory
from seg_pipeline.segmentation.data.cache import open_cache
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.phantom import write_phantom
from seg_pipeline.segmentation.settings.training import InputSettings

pytestmark = pytest.mark.slow

SIZE = (96, 160)
GIB = 2**30


def estimate(table, settings=None, **given):
    about = {"task": "multilabel", "num_classes": 2, "mode": "auto", "free_ram": 8 * GIB, "free_disk": 50 * GIB}
    return memory.estimate_memory(table, settings or InputSettings(size=SIZE), **{**about, **given})


def table_of(train: int, val: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"height": 10, "width": 30, "channels": 3, "split": ["train"] * train + ["val"] * val})


def test_bytes_by_hand():
    """3 images of 10 x 30 pixels, 3 channels, 2 classes."""
    found = estimate(table_of(2))
    assert found["native"]["uint8"] == {"images": 2700, "masks": 1800, "total": 4500}
    assert found["native"]["uint16"]["total"] == 5400 + 1800
    assert found["native"]["float32"]["total"] == 10800 + 1800
    assert found["training"]["uint8"] == {"images": 3 * 46080, "masks": 3 * 30720, "total": 3 * 76800}
    assert found["training_form"] == "96 x 160"
    assert found["cache"]["needed"] == 3 * 76800
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("settings", "task", "images", "masks", "form"),
    [
        ({"resize_mode": "resize"}, "multiclass", 15360 * 3, 15360, "96 x 160"),
        ({"resize_mode": "pad"}, "multilabel", 53 * 160 * 3, 53 * 160 * 7, "within 96 x 160"),  # 10 x 30: 53.3 x 160
        ({"resize_mode": "crop"}, "multiclass", 900, 300, "for crops"),
        ({"resize_mode": "crop", "scale": 2.0}, "multilabel", 3600, 8400, "scaled by 2"),
        ({"channels": "grey"}, "multiclass", 15360, 15360, "96 x 160"),
        ({"channels": (-1, 0, 1)}, "multiclass", 15360, 15360, "96 x 160"),  # each frame once
    ],
)
def test_bytes_of_each_stored_form(settings, task, images, masks, form):
    found = estimate(table_of(1, 0), InputSettings(size=SIZE, **settings), task=task, num_classes=7)
    assert found["training"]["uint8"] == {"images": images, "masks": masks, "total": images + masks}
    assert found["training_form"] == form
    assert found["cache"]["needed"] == images + masks


def test_the_gaps_between_objects_take_as_much_as_the_classes():
    """3 images of 96 x 160 in training, 3 channels, 2 classes and their gaps."""
    found = estimate(table_of(2), objects=True)
    assert found["native"]["uint8"]["masks"] == 1800
    assert found["training"]["uint8"]["masks"] == 3 * 61440
    assert found["cache"]["needed"] == 3 * (46080 + 61440)


def test_the_test_split_is_not_cached():
    table = table_of(3, 1).assign(split=["train", "val", "test", "test"])
    assert estimate(table)["cache"]["needed"] == 2 * 76800


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A manifest of real files: 16-bit images of two sizes, 3 classes."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, num_cases=3, days_per_case=1, frames_per_series=(8, 9), size=128, other_size=(128, 160))
    files = index_files(folder / "train", glob="**/*.png", pattern=r"(?P<image_id>.+)\.png")
    names = ("large_bowel", "small_bowel", "stomach")
    lists = {f"mask_{name}": [["700 300 2000 900"] for _ in range(len(files))] for name in names}
    table = files.assign(row=2, group="g", series="g", frame=0, **lists)
    manifest, _ = measure_images(table, MaskReader({name: name for name in names}, "rle"))
    assert len(manifest) >= 20
    return manifest.assign(split="train")


def measured(load) -> int:
    """Bytes that ``load()`` leaves allocated."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = load()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept
    return after - before


def test_the_estimate_matches_images_loaded_at_native_size(phantom):
    names = ["large_bowel", "small_bowel", "stomach"]
    rows = phantom.to_dict("records")
    assert phantom["dtype"].unique().tolist() == ["uint16"]
    assert phantom["width"].nunique() == 2
    taken = measured(lambda: [(read_image(row["path"]), read_masks(row, names)) for row in rows])
    wanted = estimate(phantom, num_classes=3)["native"]["uint16"]["total"]
    assert taken == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("resize_mode", ["resize", "pad", "crop"])
def test_the_estimate_matches_the_size_of_a_cache(phantom, resize_mode, task):
    settings = InputSettings(size=SIZE, resize_mode=resize_mode)
    form = {"task": task, "background": task == "multiclass"}
    taken = measured(lambda: open_cache(phantom, settings, **form, mode="ram", folder=None))
    found = estimate(phantom, settings, task=task, num_classes=3)
    assert taken == pytest.approx(found["training"]["uint8"]["total"], rel=0.1)
    assert found["training"]["uint8"]["total"] == found["cache"]["needed"]


@pytest.mark.parametrize(
    ("needed", "free_ram", "free_disk", "mode"),
    [
        (GIB, 4 * GIB, 0, "ram"),
        (GIB + 1, 64 * GIB, 2 * GIB, "disk"),  # never more than 1 GiB
        (GIB, 4 * GIB - 4, GIB, "disk"),  # nor more than a quarter of what is free
        (GIB, 4 * GIB - 4, GIB - 1, "none"),
    ],
)
def test_the_choice_of_auto_by_hand(needed, free_ram, free_disk, mode):
    assert memory.pick_mode("auto", needed, free_ram=free_ram, free_disk=free_disk) == mode
    assert memory.pick_mode("none", needed, free_ram=free_ram, free_disk=free_disk) == "none"


@pytest.mark.parametrize(
    ("train", "settings", "kept", "text"),
    [
        (5, {}, "ram", "the train and val images take 450 KiB and are kept in memory; 8 GiB of memory and 50"),
        (20_000, {}, "disk", "are packed once on disk; 8 GiB of memory and 50 GiB of disk space are free"),
        (5, {"mode": "ram", "free_ram": 600_000}, "ram", "auto or a smaller training.input.size"),
        (5, {"mode": "disk", "free_disk": 9000}, "disk", "8.79 KiB of disk space are free: free disk space or set a"),
        (5, {"mode": "none"}, "none", "50 GiB of disk space are free: set training.compute.cache: auto"),
        (20_000, {"free_disk": GIB}, "none", "1 GiB of disk space are free: free disk space so that they"),
    ],
)  # fmt: skip
def test_the_advice(train, settings, kept, text):
    found = estimate(table_of(train), **settings)["cache"]
    assert found["kept"] == kept
    assert text in found["advice"]


def test_free_memory_respects_the_container_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GIB))
    assert memory.free_ram() == 10 * GIB
    for name, text in {
        "max": f"{4 * GIB}\n",
        "current": f"{3 * GIB}\n",
        "stat": f"anon 5\ninactive_file {GIB}\n",
    }.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_ram() == 2 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_ram() == 10 * GIB


def test_free_disk_is_that_of_the_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=7))
    assert memory.free_disk(tmp_path / "not" / "yet") == 7
    assert asked == [tmp_path]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1536, "1.5 KiB"),
        (1023, "1023 B"),
        (2**20, "1 MiB"),
        (12.34 * GIB, "12.3 GiB"),
        (5000 * 2**40, "5e+03 TiB"),
    ],
)
def test_bytes_are_formatted_for_readers(count, text):
    assert memory.format_bytes(count) == text


def test_the_table_is_not_modified():
    table = table_of(3)
    estimate(table)
    pd.testing.assert_frame_equal(table, table_of(3))
    assert np.issubdtype(table["height"].dtype, np.integer)
