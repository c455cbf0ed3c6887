import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation import memory
from seg_pipeline.segmentation.datasets import ImageMaskDataset
from seg_pipeline.segmentation.features import MaskReader, measure_images
from seg_pipeline.segmentation.files import index_files
from seg_pipeline.segmentation.images import read_image
from seg_pipeline.segmentation.manifest import read_masks
from seg_pipeline.segmentation.phantom import write_phantom

SIZE = (96, 160)
GIB = 2**30


def estimate(table, **settings):
    given = {"num_classes": 2, "size": SIZE, "cache": None, "free_ram": 8 * GIB, "free_disk": 50 * GIB, **settings}
    return memory.estimate_memory(table, **given)


def table_of(train: int, val: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"height": 10, "width": 30, "channels": 3, "split": ["train"] * train + ["val"] * val})


def test_bytes_by_hand():
    """3 images of 10 x 30 pixels, 3 channels, 2 classes."""
    found = estimate(table_of(2))
    assert found["native"]["uint8"] == {"images": 2700, "masks": 1800, "total": 4500}
    assert found["native"]["uint16"]["total"] == 5400 + 1800
    assert found["native"]["float32"]["total"] == 10800 + 1800
    assert found["training"]["uint8"] == {"images": 3 * 46080, "masks": 3 * 30720, "total": 3 * 76800}
    assert found["cache"]["needed"] == {"train": 2 * 76800, "val": 76800}
    assert json.loads(json.dumps(found)) == found


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


def test_the_estimate_is_what_a_load_takes_at_native_size(phantom):
    names = ["large_bowel", "small_bowel", "stomach"]
    rows = phantom.to_dict("records")
    assert phantom["dtype"].unique().tolist() == ["uint16"]
    assert phantom["width"].nunique() == 2
    taken = measured(lambda: [(read_image(row["path"]), read_masks(row, names)) for row in rows])
    wanted = estimate(phantom, num_classes=3)["native"]["uint16"]["total"]
    assert taken == pytest.approx(wanted, rel=0.1)


def test_the_estimate_is_what_a_load_takes_at_training_size(phantom):
    dataset = ImageMaskDataset(phantom, size=SIZE)
    taken = measured(lambda: [dataset[index] for index in range(len(dataset))])
    found = estimate(phantom, num_classes=3)
    assert taken == pytest.approx(found["training"]["uint8"]["total"], rel=0.1)
    assert found["training"]["uint8"]["total"] == found["cache"]["needed"]["train"]


@pytest.mark.parametrize("cache", [None, True, False])
@pytest.mark.parametrize("limit", [10**6, 10**9])
def test_the_cache_setting_is_that_of_the_data_set(manifest, monkeypatch, cache, limit):
    monkeypatch.setattr(memory, "CACHE_LIMIT_BYTES", limit)
    train = manifest[manifest["split"] == "train"]
    dataset = ImageMaskDataset(train, size=(256, 256), cache=cache)
    kept = estimate(manifest, size=(256, 256), cache=cache)["cache"]["kept"]["train"]
    assert kept == (dataset._kept is not None)
    assert kept == (cache if cache is not None else limit == 10**9)


def test_the_limit_itself_is_not_kept():
    size = (2**10, 2**8)  # 5 bytes a pixel
    most = memory.CACHE_LIMIT_BYTES // memory.sample_bytes(size, 2)
    assert memory.is_cached(most, size=size, num_classes=2, cache=None)
    assert not memory.is_cached(most + 1, size=size, num_classes=2, cache=None)
    exact = {"size": (2**10, 2**7), "num_classes": 5, "cache": None}  # 2**20 bytes
    assert memory.is_cached(1023, **exact)
    assert not memory.is_cached(1024, **exact)


@pytest.mark.parametrize(
    ("train", "settings", "text"),
    [
        (5, {}, "train (375 KiB) is kept in memory, val (75 KiB) is kept in memory; the setting of "),
        (5, {"cache": True, "free_ram": 600_000}, "free are 586 KiB: set training.loader.cache: false or a smaller"),
        (20_000, {"free_ram": 10 * GIB}, "train (1.43 GiB) is not kept in memory, val (75 KiB) is kept"),
        (20_000, {"free_ram": 10 * GIB}, "with training.loader.cache: true each image is decoded once"),
        (20_000, {"free_ram": 2 * GIB}, "; the setting of training.loader.cache suits this machine"),
    ],
)
def test_the_advice(train, settings, text):
    assert text in estimate(table_of(train), **settings)["cache"]["advice"]


def test_free_memory_is_no_more_than_the_container_leaves(tmp_path, monkeypatch):
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
    monkeypatch.chdir(tmp_path)
    assert memory.free_disk() > 0


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
def test_bytes_in_words(count, text):
    assert memory.readable(count) == text


def test_the_table_is_left_as_it_was():
    table = table_of(3)
    estimate(table)
    pd.testing.assert_frame_equal(table, table_of(3))
    assert np.issubdtype(table["height"].dtype, np.integer)
