import pytest
import torch

from seg_pipeline.segmentation.augment import PRESETS, make_augmentation
from seg_pipeline.segmentation.masks import IGNORE


def sample():
    masks = torch.zeros(2, 32, 48, dtype=torch.uint8)
    masks[0, 8:20, 5:30] = 1
    masks[1, 18:28, 20:40] = 1
    image = (masks[0] * 120 + masks[1] * 100).expand(3, 32, 48).contiguous()
    return image, masks


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_image_and_masks_move_together(name):
    augmentation = make_augmentation(name)
    image, masks = sample()
    for seed in range(8):
        torch.manual_seed(seed)
        moved, moved_masks = augmentation(image, masks)
        assert moved.shape == image.shape
        assert moved.dtype == moved_masks.dtype == torch.uint8
        assert set(moved_masks.unique().tolist()) <= {0, 1, IGNORE}
        inside = moved.float().mean(0)
        assert inside[(moved_masks == 1).all(0)].mean() > inside[(moved_masks == 0).all(0)].mean() + 50


def test_pixels_from_outside_the_frame_count_nowhere():
    augmentation = make_augmentation("medical")
    torch.manual_seed(0)
    moved, masks = augmentation(*sample())
    outside = (masks == IGNORE).any(0)
    assert outside.any()
    assert (masks == IGNORE).all(0)[outside].all()
    assert moved.float().mean(0)[outside].max() < 40


def test_the_medical_preset_never_mirrors():
    image = torch.zeros(3, 32, 48, dtype=torch.uint8)
    image[:, :, 36:] = 200
    for seed in range(30):
        torch.manual_seed(seed)
        moved, _ = make_augmentation("medical")(image, image[:1])
        assert moved[:, 8:24, 24:].float().mean() > moved[:, 8:24, :24].float().mean()


def test_none_is_none_and_an_unknown_name_lists_the_known():
    assert make_augmentation("none") is None
    with pytest.raises(ValueError, match="'heavy' is none of the presets none, light, medical, street"):
        make_augmentation("heavy")
