import cv2
import numpy as np
import pytest
import torch

from seg_pipeline.segmentation.augment import make_augmentation
from seg_pipeline.segmentation.datasets import ImageMaskDataset, resize_masks
from seg_pipeline.segmentation.masks import IGNORE


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_sample_at_native_size_holds_the_files_pixels(manifest):
    dataset = ImageMaskDataset(manifest, size=(40, 48))
    image, masks = dataset[3]
    row = manifest.iloc[3]
    assert image.dtype == masks.dtype == torch.uint8
    np.testing.assert_array_equal(image.numpy(), np.stack([cv2.imread(row["path"], 0)] * 3))
    assert masks.shape == (2, 40, 48)
    assert masks.sum((1, 2)).tolist() == [row["area_box"], row["area_disc"]]


def test_resizing_keeps_the_values_of_masks():
    masks = np.zeros((1, 4, 6), dtype=np.uint8)
    masks[0, :2, :3], masks[0, 3, 5] = 1, IGNORE
    np.testing.assert_array_equal(resize_masks(masks, (2, 3))[0], [[1, 0, 0], [0, 0, IGNORE]])


def test_augmentation_depends_on_seed_epoch_and_index_only(manifest):
    def dataset(seed=1, cache=True):
        return ImageMaskDataset(
            manifest, size=(32, 64), augmentation=make_augmentation("medical"), seed=seed, cache=cache
        )

    one, other = dataset(), dataset(cache=False)
    other[2, 3], torch.rand(7)  # what was read or drawn before must not matter
    assert equal(one[1, 3], other[1, 3])
    assert equal(one[1, 3], one[1, 3])
    assert not equal(one[1, 3], one[2, 3])
    assert not equal(one[1, 3], dataset(seed=2)[1, 3])


def test_augmentation_leaves_torchs_own_randomness_alone(manifest):
    dataset = ImageMaskDataset(manifest, size=(32, 64), augmentation=make_augmentation("medical"))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    dataset[0, 1]
    assert torch.equal(torch.rand(3), expected)


def test_a_kept_sample_is_not_changed_by_augmentation(manifest):
    dataset = ImageMaskDataset(manifest, size=(32, 64), augmentation=make_augmentation("medical"), cache=True)
    before = [part.clone() for part in dataset._read(5)]
    dataset[0, 5]
    assert equal(dataset._read(5), before)


def test_a_file_that_changed_since_is_an_error(manifest):
    dataset = ImageMaskDataset(manifest.assign(height=41), size=(32, 64))
    with pytest.raises(
        ValueError, match=r"scan00.png: image is 40 x 48 .* the manifest says 41 x 48: the file has changed"
    ):
        dataset[0]
