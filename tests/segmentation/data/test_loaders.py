import os
import re
import signal
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset

from seg_pipeline.segmentation.data import loaders as loading
from seg_pipeline.segmentation.data.datasets import Draw
from seg_pipeline.segmentation.data.loaders import Loader, collate, make_loaders, whole_image_batch_size
from seg_pipeline.segmentation.data.resident import ResidentLoader
from seg_pipeline.segmentation.data.sampler import EpochSampler, draw_classes, draw_in_proportion, image_factors
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.settings.training import ComputeSettings, InputSettings, SamplingSettings

CPU = torch.device("cpu")
HERE = ComputeSettings(num_workers=0, cache="none")
threads = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def table(number, **areas):
    """A manifest's columns that the sampler reads; ``areas`` are lists of the images that show a class."""
    columns = {f"area_{name}": [5 * (index in shown) for index in range(number)] for name, shown in areas.items()}
    masks = {f"mask_{name}": "" for name in areas}
    return pd.DataFrame({"image_id": [f"scan{index}" for index in range(number)], **columns, **masks})


def flat(lists):
    return list(chain.from_iterable(lists))


def epochs(sampler, number):
    """The batches of the first epochs."""
    drawn = []
    for sampler.epoch in range(number):
        drawn.append(list(sampler))
    return drawn


# order


def test_each_epoch_has_every_image_once_in_a_new_order():
    sampler = EpochSampler(table(20), batch_size=4, seed=3)
    assert len(sampler) == 5
    first, second = epochs(sampler, 2)
    assert [len(batch) for batch in first] == [4] * 5
    assert sorted(flat(first)) == [Draw(0, index, 0) for index in range(20)]
    assert sorted(flat(second)) == [Draw(1, index, 0) for index in range(20)]
    assert [draw.index for draw in flat(first)] != [draw.index for draw in flat(second)]
    assert epochs(sampler, 1) == [first]
    assert epochs(EpochSampler(table(20), batch_size=4, seed=4), 1) != [first]


def test_an_incomplete_last_batch_is_dropped():
    sampler = EpochSampler(table(11), batch_size=4, seed=0)
    assert len(sampler) == 2
    drawn = epochs(sampler, 20)
    assert {len(batch) for epoch in drawn for batch in epoch} == {4}
    assert {draw.index for epoch in drawn for batch in epoch for draw in batch} == set(range(11))


def test_fewer_images_than_a_batch_are_one_batch():
    assert [len(batch) for batch in EpochSampler(table(10), batch_size=64, seed=0)] == [10]


def test_a_resumed_epoch_has_the_remaining_batches():
    sampler = EpochSampler(table(20, box=[1, 2]), batch_size=3, seed=3, oversampling="classes")
    sampler.epoch = 2
    whole = list(sampler)
    sampler.start = 4
    assert list(sampler) == whole[4:]
    assert len(sampler) == 6  # of a whole epoch
    sampler.start = 6
    assert list(sampler) == []


def test_ids_returns_the_images_of_a_batch():
    sampler = EpochSampler(table(9, box=[0]), batch_size=4, seed=1, oversampling="foreground")
    [batches] = epochs(sampler, 1)
    assert [sampler.ids(0, step) for step in (0, 1)] == [[f"scan{draw.index}" for draw in batch] for batch in batches]


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_share_the_batches_of_one(world):
    rows = table(50, box=[3, 4])
    alone = EpochSampler(rows, batch_size=12, seed=3, oversampling="foreground")
    parts = [
        EpochSampler(rows, batch_size=12, seed=3, oversampling="foreground", rank=rank, world=world)
        for rank in range(world)
    ]
    [whole] = epochs(alone, 1)
    together = [flat(batches) for batches in zip(*(epochs(part, 1)[0] for part in parts), strict=True)]
    assert together == whole
    assert flat(part.ids(0, 1) for part in parts) == alone.ids(0, 1)


def test_processes_get_equal_parts_of_the_only_batch():
    parts = [EpochSampler(table(11), batch_size=64, seed=0, rank=rank, world=2) for rank in (0, 1)]
    first, second = (flat(part) for part in parts)
    assert len(first) == len(second) == 5
    assert len({*first, *second}) == 10


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(
        ValueError, match=r"`batch_size: 9` cannot be divided equally among 2 processes; set 8 or another multiple"
    ):
        EpochSampler(table(20), batch_size=9, seed=0, world=2)
    with pytest.raises(ValueError, match="1 train images are too few for 2 processes; lower `devices`"):
        EpochSampler(table(1), batch_size=2, seed=0, world=2)


# balance


def test_foreground_images_get_half_of_the_draws_with_few_repeats():
    sampler = EpochSampler(table(20, box=[2, 5], disc=[5, 7]), batch_size=20, seed=3, oversampling="foreground")
    left_out = set()
    for [batch] in epochs(sampler, 8):
        drawn = [draw.index for draw in batch]
        counts = np.bincount(drawn, minlength=20)
        assert sum(counts[[2, 5, 7]]) == 10
        assert set(counts[[2, 5, 7]]) == {3, 4}
        assert set(np.delete(counts, [2, 5, 7])) == {0, 1}  # 10 of the 17 others
        left_out |= set(range(20)) - set(drawn)
        assert {(draw.index, draw.repeat) for draw in batch if draw.index == 5} == {
            (5, repeat) for repeat in range(counts[5])
        }
    assert left_out == set(range(20)) - {2, 5, 7}


@pytest.mark.parametrize("shown", [[], list(range(6))])
def test_foreground_oversampling_has_no_effect_without_both_kinds_of_images(shown):
    [[batch]] = epochs(EpochSampler(table(6, box=shown), batch_size=6, seed=3, oversampling="foreground"), 1)
    assert sorted(batch) == [Draw(0, index) for index in range(6)]


def test_classes_are_drawn_equally_often_from_images_that_show_them():
    """20 draws: about 14 of them for a class, half of those for the disc, which one image alone shows."""
    rows = table(20, box=[0, 1, 2, 3], disc=[3], ring=[])
    sampler = EpochSampler(rows, batch_size=20, seed=3, oversampling="classes", background=True)
    labels = []
    for [batch] in epochs(sampler, 200):
        assert len(set(batch)) == 20  # repeats of an image are counted
        assert all(draw.index == 3 for draw in batch if draw.label == 2)
        assert all(draw.index < 4 for draw in batch if draw.label == 1)
        labels += [draw.label for draw in batch]
    shares = np.bincount(np.add(labels, 1), minlength=4) / len(labels)
    np.testing.assert_allclose(shares, [0.3, 0, 0.35, 0.35], atol=0.02)  # any, background, box, disc


def test_images_of_a_class_are_drawn_in_turn():
    shown = np.zeros((9, 2), dtype=bool)
    shown[:4, 0] = True
    images, classes = draw_classes(shown, 8, np.random.default_rng(0))
    assert (classes == 0).all()
    assert np.bincount(images).tolist() == [2, 2, 2, 2]
    images, classes = draw_classes(np.zeros((3, 2), dtype=bool), 5, np.random.default_rng(0))
    assert (classes == -1).all()  # nothing is shown: any image
    assert set(images) <= {0, 1, 2}


def test_image_factors_by_hand():
    shown = np.array([[False], [True], [False]])
    assert image_factors(shown, "none").tolist() == [1, 1, 1]
    np.testing.assert_allclose(image_factors(shown, "foreground"), [0.5, 1, 0.5])


def test_the_number_of_draws_does_not_depend_on_the_factors():
    rng = np.random.default_rng(0)
    for number in (1, 2, 7, 1000):
        factors = rng.random(number) + 1e-6
        drawn = draw_in_proportion(factors, rng)
        expected = factors * number / factors.sum()
        counts = np.bincount(drawn, minlength=number)
        assert len(drawn) == number
        assert (np.abs(counts - expected) < 1 + 1e-9).all()


# loaders


def batches(loaders, epoch, start=0):
    loaders.order.epoch, loaders.order.start = epoch, start
    return list(loaders.train)


def assert_equal(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_batches_come_from_their_split(manifest, config):
    loaders = make_loaders(manifest, config, HERE, device=CPU)
    assert len(loaders.train) == len(loaders.order) == 2  # 10 images: a batch of 2 is left for another epoch
    assert [len(images) for images, _ in loaders.train] == [4, 4]
    assert [len(images) for images, _ in loaders.val] == [3]
    images, truth = next(iter(loaders.val))
    assert images.shape == (3, 3, 32, 64)
    assert truth.shape == (3, 2, 32, 64)
    assert images.dtype == truth.dtype == torch.uint8
    assert type(images) is type(truth) is torch.Tensor
    assert images.is_contiguous(memory_format=torch.channels_last)


@threads
@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_neither_workers_nor_cache_change_a_batch(manifest, config, tmp_path, cache):
    here = make_loaders(manifest, config, HERE, device=CPU)
    there = make_loaders(
        manifest, config, ComputeSettings(num_workers=2, cache=cache), device=CPU, cache_folder=tmp_path
    )
    for epoch in (0, 1):
        assert_equal(batches(here, epoch), batches(there, epoch))
    assert_equal(list(here.val), list(there.val))


def test_an_epoch_can_be_resumed(manifest, config):
    config = replace(config, sampling=SamplingSettings(batch_size=2, augmentation="street", oversampling="foreground"))
    loaders = make_loaders(manifest, config, HERE, device=CPU)
    assert_equal(batches(loaders, 1)[2:], batches(loaders, 1, start=2))


@threads
@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_epoch_follows_without_a_new_start(manifest, config, workers):
    """Workers run on through validation; an epoch that is not the next, or was given up, starts anew."""
    loaders = make_loaders(manifest, config, ComputeSettings(num_workers=workers, cache="none"), device=CPU)
    started = count_starts(loaders.train)
    epochs = [batches(loaders, epoch) for epoch in (0, 1, 2)]
    assert started == [(0, 0)]
    assert_equal(batches(loaders, 1, start=1), epochs[1][1:])
    assert_equal(batches(loaders, 2), epochs[2])
    assert started == [(0, 0), (1, 1)]
    loaders.order.epoch, loaders.order.start = 3, 0
    given_up = next(iter(loaders.train))
    assert started == [(0, 0), (1, 1)]
    assert_equal([given_up], batches(loaders, 3)[:1])
    assert started == [(0, 0), (1, 1), (3, 0)]


class Counted:
    """A loader that notes epoch and first step of each start.

    No class within a function: that is a reference cycle, and garbage collection waits for workers (`Loader.close`).
    """

    def __init__(self, order, below):
        self.order, self.below, self.started = order, below, []

    def __iter__(self):
        self.started.append((self.order.epoch, self.order.start))
        return iter(self.below)


def count_starts(train):
    train.loader = Counted(train.order, train.loader)
    return train.loader.started


def test_samples_on_the_device_are_those_of_the_loader(manifest, config):
    """The augmentation is left to the device; its parameters are the same."""
    resident = make_loaders(manifest, config, replace(HERE, cache="device"), device=CPU)
    host = make_loaders(manifest, config, HERE, device=CPU)
    assert isinstance(resident.train.loader, ResidentLoader)
    assert host.augmentation is None
    assert resident.augmentation is not None
    changed = 0
    for epoch in (0, 1):
        for mine, theirs in zip(batches(resident, epoch), batches(host, epoch), strict=True):
            images, truth, parameters = mine
            assert images.is_contiguous(memory_format=torch.channels_last)
            augmented, moved = resident.augmentation(images, truth, parameters)
            assert (augmented.int() - theirs[0].int()).abs().float().mean() < 0.5  # grey levels
            assert (moved != theirs[1]).float().mean() < 0.01
            changed += not torch.equal(images, augmented)
    assert changed
    assert_equal(list(resident.val), list(host.val))


def test_samples_on_the_device_without_augmentation(manifest, config):
    plain = config.changed({"sampling.augmentation": "none", "sampling.oversampling": "foreground"})
    resident = make_loaders(manifest, plain, replace(HERE, cache="device"), device=CPU)
    host = make_loaders(manifest, plain, HERE, device=CPU)
    assert [len(batch) for batch in batches(resident, 0)] == [2, 2]
    assert_equal(batches(resident, 0), batches(host, 0))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"input.resize_mode": "crop"}, "`input.resize_mode: crop`, whose windows are cut on the host"),
        ({"sampling.albumentations": "p.json"}, "`sampling.albumentations`, which works on the host"),
    ],
)
def test_what_works_on_the_host_cannot_stay_on_the_device(manifest, config, monkeypatch, changes, why):
    monkeypatch.setattr(loading, "albumentations_augmentation", lambda _: None)
    with pytest.raises(ValueError, match=re.escape(f"`training.compute.cache: device` cannot be used with {why}")):
        make_loaders(manifest, config.changed(changes), replace(HERE, cache="device"), device=CPU)


@pytest.mark.parametrize(
    ("free", "changes", "cache", "stays"),
    [
        (4 * 133_120, {}, "auto", True),  # 13 images of 32 x 64 with 3 channels and 2 masks
        (4 * 133_119, {}, "auto", False),
        (10**9, {}, "ram", False),
        (10**9, {"input.resize_mode": "crop"}, "auto", False),
    ],
)
def test_auto_keeps_samples_on_a_gpu_if_they_take_a_quarter(manifest, config, monkeypatch, free, changes, cache, stays):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80 * 2**30))
    config = config.changed(changes)
    loaders = make_loaders(manifest, config, HERE, device=CPU)
    datasets = loaders.train.dataset, loaders.val.dataset
    compute = ComputeSettings(cache=cache)
    assert loading.keep_on_device(*datasets, config, compute, torch.device("cuda")) is stays
    assert not loading.keep_on_device(*datasets, config, compute, CPU)


def test_an_image_drawn_twice_in_an_epoch_is_augmented_differently(manifest, config):
    config = replace(
        config, sampling=SamplingSettings(batch_size=10, augmentation="medical", oversampling="foreground")
    )
    loaders = make_loaders(manifest, config, HERE, device=CPU)
    [(images, _)] = batches(loaders, 0)
    [draws] = list(loaders.order)
    assert max(draw.repeat for draw in draws) > 0
    assert len(images.flatten(1).unique(dim=0)) == 10


def test_processes_see_each_validation_image_once_in_the_batches_of_one(manifest, config):
    config = replace(config, sampling=SamplingSettings(batch_size=2))
    [alone, *parts] = [
        make_loaders(manifest, config, HERE, device=CPU, rank=rank, world=world)
        for rank, world in [(0, 1), (0, 2), (1, 2)]
    ]
    assert [[len(images) for images, _ in part.val] for part in parts] == [[2], [1]]
    assert_equal(list(alone.val), [batch for part in parts for batch in part.val])
    assert [[len(images) for images, _ in part.train] for part in parts] == [[1] * 5] * 2
    four = replace(config, sampling=SamplingSettings(batch_size=4))
    assert list(make_loaders(manifest, four, HERE, device=CPU, rank=1, world=4).val) == []


@pytest.mark.parametrize(
    ("start", "workers", "world", "on_disk"),
    [
        ("fork", 2, 1, False),
        ("spawn", 0, 1, False),
        ("spawn", 2, 1, True),
        ("forkserver", 2, 1, True),
        ("fork", 0, 2, True),
    ],
)
def test_decoded_images_are_in_memory_once(manifest, config, tmp_path, monkeypatch, start, workers, world, on_disk):
    """A worker that is not forked would get a copy of what is in memory, and so would each process of several."""
    monkeypatch.setattr(loading, "get_start_method", lambda: start)
    compute = ComputeSettings(num_workers=workers, cache="auto")
    loaders = make_loaders(manifest, config, compute, device=CPU, cache_folder=tmp_path, world=world)
    assert isinstance(loaders.train.dataset.source.source, Path) is on_disk


@pytest.mark.parametrize(("cores", "world", "workers"), [(3, 1, 3), (24, 1, 8), (24, 4, 6), (1, 2, 0)])
def test_workers_are_as_many_as_the_container_has_cores(monkeypatch, cores, world, workers):
    """joblib counts the cores that this process may use: its affinity and the container's limit."""
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    assert loading._default_workers(torch.device("cuda"), world) == workers
    assert loading._default_workers(CPU, world) == 0


def test_loaders_leave_torchs_generator_alone(manifest, config):
    loaders = make_loaders(manifest, config, HERE, device=CPU)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    list(loaders.train)
    list(loaders.val)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_albumentations_pipeline_replaces_the_preset(manifest, config, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    library = pytest.importorskip("albumentations", reason="the extra [albumentations] is not installed")
    library.save(library.Compose([library.VerticalFlip(p=1.0)]), tmp_path / "p.json")
    plain = replace(config, sampling=SamplingSettings(batch_size=4, augmentation="none"))
    whole = batches(make_loaders(manifest, plain, HERE, device=CPU), 0)
    other = plain.changed({"sampling.albumentations": str(tmp_path / "p.json")})
    turned = batches(make_loaders(manifest, other, HERE, device=CPU), 0)
    assert_equal([[part.flip(-2) for part in batch] for batch in whole], turned)


def test_an_empty_split_is_reported(manifest, config):
    lacking = manifest[manifest["split"] != "val"]
    with pytest.raises(ValueError, match=r"the val split has no image; the manifest has \{'train': 10, 'test': 3\}"):
        make_loaders(lacking, config, HERE, device=CPU)


# whole images


def test_images_of_several_sizes_are_padded_to_the_largest():
    samples = [
        (torch.full((3, 2, 5), 7, dtype=torch.uint8), torch.ones(2, 5, dtype=torch.uint8)),
        (torch.full((3, 4, 3), 9, dtype=torch.uint8), torch.ones(4, 3, dtype=torch.uint8)),
    ]
    images, truth = collate(samples)
    assert images.shape == (2, 3, 4, 5)
    assert truth.shape == (2, 4, 5)
    assert truth[0].tolist() == [[1] * 5, [1] * 5, [IGNORE] * 5, [IGNORE] * 5]
    assert truth[1].tolist() == [[1, 1, 1, IGNORE, IGNORE]] * 4
    assert images[0, 1].tolist() == [[7] * 5, [7] * 5, [0] * 5, [0] * 5]
    assert images[1, 2].tolist() == [[9, 9, 9, 0, 0]] * 4
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_parameters_of_an_augmentation_are_stacked_behind_image_and_truth():
    sample = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8)
    images, truth, parameters = collate([(*sample, torch.tensor([1.0, 2])), (*sample, torch.tensor([3.0, 4]))])
    assert (images.shape, truth.shape) == ((2, 3, 4, 5), (2, 4, 5))
    assert parameters.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(40, 48)], 8),  # filled up to 64 by 64: twice a window's pixels
        ([(40, 48), (30, 20)], 8),  # the largest decides
        ([(10, 10)], 16),  # 32 by 32, but no more images than a training batch
        ([(1000, 1000)], 1),
    ],
)
def test_whole_images_have_no_more_pixels_than_a_training_batch(sizes, expected):
    rows = pd.DataFrame(sizes, columns=["height", "width"])
    assert whole_image_batch_size(rows, InputSettings(size=(32, 64), resize_mode="crop"), batch_size=16) == expected
    assert whole_image_batch_size(rows, InputSettings(size=(32, 64)), batch_size=16) == 16


# workers


class Faulty(Dataset):
    """Its third sample does something to the worker."""

    def __init__(self, fault):
        self.fault = fault

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            self.fault()
        return torch.zeros(1)


def hang():
    time.sleep(5)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def refuse():
    raise RuntimeError("no pixels")


@pytest.mark.fault(
    scenario="a loader worker hangs or dies",
    command="kedro run --pipeline training",
    outcome="one sentence with the setting to change",
)
@pytest.mark.slow
@threads
@pytest.mark.parametrize(
    ("fault", "timeout", "text"),
    [
        (hang, 1, r"returned no batch within 1 s\..*raise `training.compute.timeout`"),
        (die, 120, r"a worker of the data loader died .*lower `training.compute.num_workers` or"),
        (refuse, 120, "no pixels"),
    ],
)
def test_a_worker_that_hangs_or_dies_ends_the_run_with_the_setting_to_change(fault, timeout, text):
    loader = Loader(Faulty(fault), num_workers=1, timeout=timeout, batch_size=1, prefetch_factor=1)
    with pytest.raises(RuntimeError, match=text):
        list(loader)
