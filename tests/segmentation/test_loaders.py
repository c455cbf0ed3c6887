from dataclasses import replace

import pytest
import torch

from seg_pipeline.segmentation.loaders import EpochSampler, make_loaders

CPU = torch.device("cpu")


def batches(loaders, epoch):
    loaders.order.epoch = epoch
    return list(loaders.train)


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own():
    sampler = EpochSampler(20, seed=3)
    first = list(sampler)
    sampler.epoch = 1
    second = list(sampler)
    assert sorted(first) == [(0, index) for index in range(20)]
    assert [index for _, index in first] != [index for _, index in second]
    sampler.epoch = 0
    assert list(sampler) == first


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_change_nothing(manifest, recipe):
    here, there = (make_loaders(manifest, recipe, device=CPU, num_workers=n, cache=False) for n in (0, 2))
    for epoch in (0, 1):
        for one, other in zip(batches(here, epoch), batches(there, epoch), strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


def test_batches_come_from_their_split(manifest, recipe):
    loaders = make_loaders(manifest, recipe, device=CPU, num_workers=0, cache=None)
    assert [len(images) for images, _ in loaders.train] == [
        4,
        4,
    ]  # 10 images: a batch of 2 is left for another epoch
    assert [len(images) for images, _ in loaders.val] == [3]
    images, masks = next(iter(loaders.val))
    assert images.shape == (3, 3, 32, 64)
    assert masks.shape == (3, 2, 32, 64)


def test_fewer_images_than_a_batch_are_one_batch(manifest, recipe):
    loaders = make_loaders(manifest, replace(recipe, batch_size=64), device=CPU, num_workers=0, cache=None)
    assert [len(images) for images, _ in loaders.train] == [10]


def test_an_empty_split_is_named(manifest, recipe):
    lacking = manifest[manifest["split"] != "val"]
    with pytest.raises(ValueError, match=r"the val split has no image; the manifest has \{'train': 10, 'test': 3\}"):
        make_loaders(lacking, recipe, device=CPU, num_workers=0, cache=None)
