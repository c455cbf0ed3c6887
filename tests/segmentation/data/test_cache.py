import errno
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_pipeline.segmentation.data import cache as caching
from seg_pipeline.segmentation.data.cache import disk, open_cache
from seg_pipeline.segmentation.data.cache.pixels import SampleFormat
from seg_pipeline.segmentation.data.datasets import VisionImageMaskDataset
from seg_pipeline.segmentation.data.sample_decoding import Decoder
from seg_pipeline.segmentation.settings.training import InputSettings
from seg_pipeline.segmentation.storage.atomic import beside

SETTINGS = InputSettings(size=(32, 64))
CROP = InputSettings(size=(32, 64), resize_mode="crop", scale=0.5)
FORM = {"task": "multilabel", "background": False}


def opened(manifest, folder, settings=SETTINGS, mode="disk", **changed):
    return open_cache(manifest, settings, **{**FORM, **changed}, mode=mode, folder=folder)


def holds(cache, manifest, settings=SETTINGS):
    """Whether each row's sample is that which decoding gives."""
    decoder = Decoder(manifest, settings, **FORM)
    return all(
        np.array_equal(cache.image(position), decoder.image(row))
        and np.array_equal(cache.truth(position), decoder.truth(row))
        for row, position in enumerate(cache.find(manifest).tolist())
    )


def folders(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("mode", ["ram", "disk"])
@pytest.mark.parametrize("settings", [SETTINGS, CROP], ids=["resize", "crop"])
def test_cached_samples_match_decoded_ones(mixed, tmp_path, settings, mode):
    cache = open_cache(mixed, settings, **FORM, mode=mode, folder=tmp_path, num_workers=2)
    assert len(cache) == 6
    assert holds(cache, mixed, settings)
    with pytest.raises(ValueError, match="read-only"):
        cache.image(0)[0, 0] = 1
    if settings is CROP:
        assert {cache.image(position).shape for position in range(6)} == {
            (20, 24, 3), (12, 35, 3), (25, 15, 3), (32, 16, 3),
        }  # fmt: skip
        assert len(cache.points(int(cache.find(mixed.iloc[5:])[0]), None)) == 0


def test_the_cache_on_disk_is_packed(mixed, tmp_path):
    cache = opened(mixed, tmp_path)
    assert [path.name for path in sorted(cache.source.iterdir())] == [
        "images.npy", "index.json", "keys.npy", "shapes.npy", "truth.npy",
    ]  # fmt: skip
    assert np.load(cache.source / "images.npy").shape == (6 * 32 * 64 * 3,)
    assert np.load(cache.source / "truth.npy").shape == (6 * 32 * 64 * 2,)
    assert cache.nbytes == 6 * 32 * 64 * (3 + 2) + 6 * (32 + 2 * 4)  # pixels and truth, keys and shapes
    assert "points.npy" in [path.name for path in opened(mixed, tmp_path, CROP).source.iterdir()]


def test_images_are_decoded_once(mixed, tmp_path, monkeypatch):
    first = opened(mixed, tmp_path)
    monkeypatch.setattr(Decoder, "image", None)
    again = opened(mixed, tmp_path)
    assert again.source == first.source
    assert folders(tmp_path) == [first.source.name]


def test_the_key_depends_on_the_contents(mixed, tmp_path):
    key = opened(mixed, tmp_path).source
    shuffled = mixed.iloc[::-1].reset_index(drop=True)
    renamed = mixed.assign(image_id=list("uvwxyz"), split="val")
    for same in (shuffled, renamed):
        found = opened(same, tmp_path)
        assert found.source == key
        assert holds(found, same)
    others = [
        opened(mixed.iloc[1:], tmp_path),
        opened(mixed.assign(mask_left=mixed["mask_top"]), tmp_path),
        opened(mixed.assign(ignore=""), tmp_path),
    ]
    assert len({key, *(other.source for other in others)}) == 4


def test_rows_with_equal_contents_share_a_sample(mixed, tmp_path):
    twice = mixed.iloc[[0, 1, 0]].assign(image_id=["a", "b", "c"])
    cache = opened(twice, tmp_path)
    assert len(cache) == 2
    assert cache.find(twice).tolist() == [0, 1, 0]


def test_a_subset_of_the_manifest_finds_its_samples(mixed, tmp_path):
    cache = opened(mixed, tmp_path)
    part = mixed.iloc[[4, 2]]
    assert cache.find(part).tolist() == [4, 2]
    with pytest.raises(ValueError, match="a2: not in the pixel cache, which lacks 1 of 2 images; open the cache with"):
        opened(part, tmp_path).find(mixed.iloc[[4, 1]])


def test_what_changes_the_key(mixed):
    def described(settings=SETTINGS, **changed):
        return json.dumps(SampleFormat(**{"settings": settings, **FORM, "num_classes": 2, **changed}).describe())

    base, crop = described(), described(CROP)
    training = replace(SETTINGS, normalisation="training", statistics=((0, 9), (0.5,) * 3, (0.2,) * 3))
    different = [
        base,
        crop,
        described(replace(SETTINGS, size=(32, 32))),
        described(replace(SETTINGS, resize_mode="pad")),
        described(replace(SETTINGS, channels="grey")),
        described(replace(SETTINGS, normalisation="percentile")),
        described(replace(SETTINGS, normalisation="percentile", window=(2.0, 98.0))),
        described(replace(SETTINGS, normalisation="fixed", window=(2.0, 98.0))),
        described(training),
        described(replace(training, statistics=((0, 8), (0.5,) * 3, (0.2,) * 3))),
        described(replace(CROP, scale=0.7)),
        described(task="multiclass"),
        described(task="multiclass", background=True),
    ]
    assert len(set(different)) == len(different)
    # windows are cut, and frames put together, later
    assert described(replace(CROP, size=(64, 64), zoom=1.5, foreground=0.3)) == crop
    grey = described(replace(SETTINGS, channels="grey"))
    assert described(replace(SETTINGS, channels=(-1, 0), edge="black")) == grey


def test_a_cache_is_pickled_as_its_folder(mixed, tmp_path):
    cache = opened(mixed, tmp_path)
    assert len(pickle.dumps(cache)) < 2000
    assert holds(pickle.loads(pickle.dumps(cache)), mixed)
    assert holds(pickle.loads(pickle.dumps(opened(mixed, None, mode="ram"))), mixed)


def truncated(cache):
    with (cache / "images.npy").open("r+b") as file:
        file.truncate(1000)


def changed_index(cache):
    index = json.loads((cache / "index.json").read_text())
    index["bytes"]["images"] += 1
    (cache / "index.json").write_text(json.dumps(index))


def changed_shapes(cache):
    shapes = np.load(cache / "shapes.npy")
    shapes[0] = shapes[0, ::-1]
    np.save(cache / "shapes.npy", shapes)


DAMAGES = {
    "truncated": (truncated, "images.npy has 1,000 bytes, expected 36,992"),
    "no file": (lambda cache: (cache / "truth.npy").unlink(), "FileNotFoundError: .*truth.npy"),
    "no index": (lambda cache: (cache / "index.json").unlink(), "FileNotFoundError: .*index.json"),
    "half an index": (lambda cache: (cache / "index.json").write_text('{"key": '), "JSONDecodeError"),
    "another index": (lambda cache: (cache / "index.json").write_text("[]"), "TypeError"),
    "changed index": (changed_index, "index.json has changed since it was written"),
    "changed shapes": (changed_shapes, "shapes.npy has changed since it was written"),
}


@pytest.mark.fault(
    scenario="damaged pixel cache", command="kedro run --pipeline training", outcome="rebuilt, with a warning"
)
@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_rebuilt(mixed, tmp_path, caplog, damage, says):
    cache = opened(mixed, tmp_path).source
    damage(cache)
    with caplog.at_level(logging.WARNING):
        assert holds(opened(mixed, tmp_path), mixed)
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert f"{cache} is damaged (" in record.message
    assert record.message.endswith(") and is rebuilt")
    assert re.search(says, record.message)
    assert folders(tmp_path) == [cache.name]


def test_an_image_that_has_changed_is_not_cached(mixed, tmp_path):
    path = str(tmp_path / "other.png")
    cv2.imwrite(path, np.zeros((40, 48), dtype=np.uint8))
    changed = mixed.assign(path=[path, *mixed["path"][1:]])
    for mode in ("ram", "disk"):
        with pytest.raises(ValueError, match=r"other\.png: its pixels differ from the manifest: run data_proces"):
            opened(changed, tmp_path / "cache", mode=mode)
    assert folders(tmp_path / "cache") == []


def test_too_little_space_is_reported_before_anything_is_written(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_disk", lambda _: 2**14)
    with pytest.raises(ValueError, match="not enough space") as error:
        opened(mixed, tmp_path / "cache")
    assert str(error.value) == (
        f"{tmp_path / 'cache'}: a pixel cache of 60 KiB (61,440 bytes) cannot be written: not enough space; "
        "16 KiB (16,384 bytes) are free. Free disk space, choose another folder, or set `cache` to none"
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.fault(
    scenario="disk full while the pixel cache is written",
    command="kedro run --pipeline training",
    outcome="one sentence with sizes; no partial cache",
)
def test_a_full_disk_leaves_no_partial_cache(mixed, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        ValueError, match=r"60 KiB .* cannot be written: No space left on device; .* are free. Free disk space"
    ):
        opened(mixed, tmp_path)
    assert folders(tmp_path) == []


@pytest.mark.fault(
    scenario="killed while the pixel cache is written",
    command="kedro run --pipeline training",
    outcome="the next run builds it again and removes the half-written one",
)
def test_a_killed_build_leaves_no_damage(mixed, tmp_path):
    mixed.to_pickle(tmp_path / "mixed.pkl")
    script = f"""
        import os, pandas as pd
        from pathlib import Path
        from seg_pipeline.segmentation.data.cache import disk, open_cache
        from seg_pipeline.segmentation.settings.training import InputSettings
        disk._publish = lambda *_: os.kill(os.getpid(), 9)
        open_cache(pd.read_pickle({str(tmp_path / "mixed.pkl")!r}), InputSettings(size=(32, 64)), task="multilabel",
                   background=False, mode="disk", folder=Path({str(tmp_path / "cache")!r}))
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == -9
    (half,) = (tmp_path / "cache").iterdir()
    assert half.name.startswith(".")
    with beside(tmp_path / "cache/living", folder=True) as living:
        opened(mixed.iloc[:2], tmp_path / "cache")
        assert not half.exists()
        assert living.exists()


@pytest.mark.fault(
    scenario="two runs build one pixel cache",
    command="kedro run --pipeline training",
    outcome="both use the one that is complete first",
)
def test_two_builds_at_once_give_one_cache(mixed, tmp_path, monkeypatch):
    meet = threading.Barrier(2, timeout=120)
    publish = disk._publish

    def together(*args):
        meet.wait()
        publish(*args)

    monkeypatch.setattr(disk, "_publish", together)
    found = []
    both = [threading.Thread(target=lambda: found.append(opened(mixed, tmp_path))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert found[0].source == found[1].source
    assert all(holds(cache, mixed) for cache in found)
    assert folders(tmp_path) == [found[0].source.name]


def test_the_most_recently_used_caches_are_kept(mixed, tmp_path):
    (tmp_path / "notes").mkdir()  # not ours
    sources = [opened(mixed.iloc[: number + 1], tmp_path).source for number in range(disk.MAX_CACHES)]
    for age, source in enumerate(sources):
        for one in [*source.iterdir(), source]:
            os.utime(one, (1e9 + age, 1e9 + age))
    opened(mixed.iloc[:1], tmp_path)  # the oldest is used again
    newest = opened(mixed, tmp_path).source
    expected = [sources[0], *sources[2:], newest]
    assert folders(tmp_path) == sorted(["notes", *(source.name for source in expected)])


@pytest.mark.fault(
    scenario="many pixel caches while one is in use",
    command="kedro run --pipeline training",
    outcome="the one in use stays",
    review="data 19",
)
def test_a_cache_in_use_is_not_removed(mixed, tmp_path):
    held = opened(mixed.iloc[:1], tmp_path)
    in_worker = pickle.loads(pickle.dumps(opened(mixed.iloc[:2], tmp_path)))
    for number in range(3, 4 + disk.MAX_CACHES):
        opened(mixed.iloc[:number], tmp_path)
    expected = {held.source.name, in_worker.source.name}
    assert expected < set(folders(tmp_path))
    assert len(folders(tmp_path)) == disk.MAX_CACHES + 2
    assert holds(pickle.loads(pickle.dumps(held)), mixed.iloc[:1])
    del held, in_worker
    opened(mixed.iloc[1:], tmp_path)
    assert len(folders(tmp_path)) == disk.MAX_CACHES
    assert not expected & set(folders(tmp_path))


def test_modes(mixed, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    assert opened(mixed, tmp_path, mode="none") is None
    assert not isinstance(opened(mixed, tmp_path, mode="auto").source, Path)
    monkeypatch.setattr(caching, "free_ram", lambda: 100_000)  # a quarter is too little
    assert isinstance(opened(mixed, tmp_path, mode="auto").source, Path)
    assert opened(mixed, None, mode="auto") is None
    monkeypatch.setattr(caching, "free_disk", lambda _: 50_000)
    assert isinstance(opened(mixed, tmp_path, mode="auto").source, Path)  # it is there already
    assert opened(mixed.iloc[1:], tmp_path, mode="auto") is None
    lines = [record.message for record in caplog.records]
    assert len(lines) == 6
    assert lines[0].startswith("pixel cache: 60 KiB of decoded images are decoded on every access (cache: none; free")
    assert "60 KiB of decoded images are kept in memory (cache: auto)" in lines[1]
    assert f"60 KiB of decoded images are kept in {tmp_path} (cache: auto)" in lines[2]
    with pytest.raises(ValueError, match="the pixel cache on disk needs a folder; name one, or set `cache` to ram"):
        opened(mixed, None)


def test_train_and_val_data_sets_share_a_cache(manifest, tmp_path):
    cache = opened(manifest, tmp_path)
    for split in ("train", "val"):
        rows = manifest[manifest["split"] == split]
        dataset = VisionImageMaskDataset(rows, SETTINGS, **FORM, cache=cache)
        decoder = Decoder(rows, SETTINGS, **FORM)
        assert len(dataset) == len(rows)
        np.testing.assert_array_equal(dataset[2][0].permute(1, 2, 0).numpy(), decoder.image(2))


def test_what_several_processes_read_is_mapped_from_disk(mixed, tmp_path, monkeypatch):
    """In memory each process would hold a copy, and each loader's worker that is not forked."""
    assert isinstance(opened(mixed, tmp_path, mode="ram", shared=True).source, Path)
    assert isinstance(opened(mixed, tmp_path, mode="auto", shared=True).source, Path)
    assert opened(mixed, tmp_path, mode="none", shared=True) is None
    assert not isinstance(opened(mixed, None, mode="auto", shared=True).source, Path)  # there is no folder
    monkeypatch.setattr(caching, "free_disk", lambda _: 100)
    assert not isinstance(opened(mixed.iloc[1:], tmp_path, mode="auto", shared=True).source, Path)
