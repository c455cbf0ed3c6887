import pickle

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from seg_pipeline.segmentation.data.augmentation import PRESETS, Preset, TorchvisionTransforms, make_augmentation
from seg_pipeline.segmentation.data.augmentation.geometric import Flip, _pixel_matrix
from seg_pipeline.segmentation.data.augmentation.intensity import NOISE_LENGTH, Tone, noise_table
from seg_pipeline.segmentation.images.masks import IGNORE

NAMES = [name for name in PRESETS if name != "none"]


def sample(channels=3):
    """A bright box and a brighter one over part of it."""
    masks = torch.zeros(2, 32, 48, dtype=torch.uint8)
    masks[0, 8:20, 5:30] = 1
    masks[1, 18:28, 20:40] = 1
    image = (masks[0] * 120 + masks[1] * 100).expand(channels, 32, 48).contiguous()
    return image, masks


def parameters(augmentation, number=8, shape=(32, 48)):
    return augmentation.draw(0, np.arange(number)[:, None], shape)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_image_and_masks_move_together(name, channels):
    augmentation = make_augmentation(name, rgb=channels == 3)
    image, masks = sample(channels)
    for drawn in parameters(augmentation):
        moved, moved_masks = augmentation.apply(image, masks, drawn)
        assert moved.shape == image.shape
        assert moved.dtype == moved_masks.dtype == torch.uint8
        assert set(moved_masks.unique().tolist()) <= {0, 1, IGNORE}
        inside = moved.float().mean(0)
        assert inside[(moved_masks == 1).all(0)].mean() > inside[(moved_masks == 0).all(0)].mean() + 50


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("name", NAMES)
def test_each_class_moves_like_a_multiclass_truth(name, number):
    augmentation = make_augmentation(name)
    image, _ = sample()
    masks = torch.from_numpy(np.random.default_rng(number).integers(0, 2, (number, 32, 48), dtype=np.uint8))
    for drawn in parameters(augmentation, 4):
        one, moved_masks = augmentation.apply(image, masks, drawn)
        for mask, moved_mask in zip(masks, moved_masks, strict=True):
            other, moved_truth = augmentation.apply(image, mask, drawn)
            assert torch.equal(one, other)
            assert torch.equal(moved_truth, moved_mask)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_not_changed_in_place_and_stay_channels_last(name):
    augmentation = make_augmentation(name)
    image, masks = sample()
    by_pixel = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # same values, other strides
    for drawn in parameters(augmentation):
        one, other = (augmentation.apply(form, masks, drawn)[0] for form in (image, by_pixel))
        assert torch.equal(one, other)
        assert other.stride() == by_pixel.stride()
    assert torch.equal(image, sample()[0])
    assert torch.equal(masks, sample()[1])


def test_a_flip_before_changes_of_intensity_keeps_the_sample():
    image, masks = sample()
    augmentation = Preset(Flip(), Tone(brightness=0.5, contrast=0.5))
    by_pixel = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for drawn in parameters(augmentation):
        assert not torch.equal(augmentation.apply(by_pixel, masks, drawn)[0], image)
        assert torch.equal(by_pixel, image)


@pytest.mark.parametrize("name", ["medical", "street", "microscopy"])
def test_pixels_from_outside_the_frame_are_ignored(name):
    augmentation = make_augmentation(name)
    image, masks = torch.full((3, 32, 48), 255, dtype=torch.uint8), torch.ones(2, 32, 48, dtype=torch.uint8)
    seen = 0
    for drawn in parameters(augmentation, 10):
        _, moved_masks = augmentation.apply(image, masks, drawn)
        outside = (moved_masks == IGNORE).any(0)
        seen += outside.sum()
        assert (moved_masks == IGNORE).all(0)[outside].all()
        assert (moved_masks == 1).all(0)[~outside].all()
    assert seen > 100


def test_mirroring_alone_moves_pixels_exactly():
    image = torch.arange(32 * 48, dtype=torch.float32).remainder(251).to(torch.uint8).reshape(1, 32, 48)
    light = make_augmentation("light")
    drawn = parameters(light, 400)
    assert set(drawn.ravel().tolist()) == {0.0, 1.0}
    assert drawn.mean() == pytest.approx(0.5, abs=0.1)
    for one in drawn[:20]:
        expected = image.flip(-1) if one else image
        moved, truth = light.apply(image, image[0], one)
        assert torch.equal(moved, expected)
        assert torch.equal(truth, expected[0])


def test_the_medical_preset_never_mirrors_and_street_does():
    image = torch.zeros(3, 32, 48, dtype=torch.uint8)
    image[:, :, 36:] = 200

    def sides(name):
        augmentation = make_augmentation(name)
        drawn = parameters(augmentation, 30)
        moved = (augmentation.apply(image, image[0], one)[0][:, 8:24].float() for one in drawn)
        return {(part[..., 24:].mean() > part[..., :24].mean()).item() for part in moved}

    assert sides("medical") == {True}
    assert sides("street") == {True, False}
    assert sides("microscopy") == {True, False}


def test_the_microscopy_preset_turns_by_any_angle():
    image = torch.zeros(1, 65, 65, dtype=torch.uint8)
    image[:, 28:37, 40:58] = 200  # to the right of the centre
    augmentation = make_augmentation("microscopy", rgb=False)
    quarters = set()
    for drawn in parameters(augmentation, 40):
        down, across = (np.argwhere(augmentation.apply(image, image, drawn)[1][0].numpy() == 200).mean(0) - 32).tolist()
        quarters.add((down > 0, across > 0))
    assert len(quarters) == 4


def test_grey_stays_grey_and_other_channels_change_alike():
    grey, colour = sample()[0], torch.tensor([200, 100, 60], dtype=torch.uint8)[:, None, None].repeat(1, 32, 48)
    turned = colour[[2, 0, 1]]
    for rgb in (True, False):
        augmentation, same = make_augmentation("street", rgb=rgb), []
        for drawn in parameters(augmentation, 6):
            red, green, blue = augmentation.apply(grey, grey[0], drawn)[0].int()
            assert (red - green).abs().max() <= 1  # rounded
            assert (red - blue).abs().max() <= 1
            one, other = (augmentation.apply(image, grey[0], drawn)[0] for image in (colour, turned))
            same.append(torch.equal(one[[2, 0, 1]], other))
        assert all(same) != rgb


def test_tone_by_hand():
    """Brightness 1.1 and contrast 0.8 around the mean (10 + 20 + 60 + 230) / 4 = 80; then gamma 2."""
    augmentation = make_augmentation("medical")
    image = torch.tensor([[[10, 20], [60, 230]]], dtype=torch.uint8)
    for exponent, expected in [
        (1, [26, 35, 70, 220]),  # 1.1 x (0.8 x 10 + 0.2 x 80) = 26.4, 35.2, 70.4, 220.0
        (2, [3, 5, 19, 190]),  # 255 x (26.4 / 255)² = 2.7, 4.9, 19.4, 189.8
    ]:
        tone = [1.1 * 0.8, 1.1 * 0.2, exponent, 255.0 ** (1 - exponent)]
        drawn = np.array([1, 0, 0, 0, 1, 0, *tone, 1, 0, 0, 0, 0], dtype=np.float32)
        assert augmentation.apply(image, image[0], drawn)[0].ravel().tolist() == expected


def test_colour_by_hand():
    """A pixel's luma is 0.299 x 200 + 0.587 x 100 + 0.114 x 50 = 124.2, and so is the mean."""
    image = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    drawn = np.array([1, 0, 0, 0, 1, 0, 1.1 * 0.8 * 0.5, 1.1 * 0.8 * 0.5, 1.1 * 0.2], dtype=np.float32)
    moved, _ = make_augmentation("street").apply(image, image[0], drawn)
    # saturation 0.5: 162.1, 112.1, 87.1; contrast 0.8: 154.52, 114.52, 94.52; brightness 1.1: 169.97, 125.97, 103.97
    assert moved[:, 5, 7].tolist() == [170, 126, 104]


def test_the_shares_of_gamma_blur_and_noise():
    drawn = parameters(make_augmentation("medical"), 4000)
    exponent, middle, near, far, level = drawn[:, [8, 10, 11, 12, 13]].T
    assert (exponent != 1).mean() == pytest.approx(0.3, abs=0.03)
    assert (near > 0).mean() == pytest.approx(0.2, abs=0.03)
    assert (level > 0).mean() == pytest.approx(0.15, abs=0.03)
    assert (exponent.min(), exponent.max()) == pytest.approx((1 / 1.5, 1.5), abs=0.01)
    assert level.max() == pytest.approx(10, abs=0.05)
    assert (middle + 2 * (near + far)) == pytest.approx(1)
    width = np.sqrt(-0.5 / np.log(near[near > 0] / middle[near > 0]))
    assert (width.min(), width.max()) == pytest.approx((0.5, 1), abs=0.01)


def test_the_medical_warp_stays_within_its_limits():
    shape = 32, 48
    for one in parameters(make_augmentation("medical"), 500, shape):
        matrix = _pixel_matrix(one[:6].tolist(), *shape)
        scale = np.sqrt(np.linalg.det(matrix[:, :2]))
        assert 1 / 1.151 < scale < 1.151
        np.testing.assert_allclose(matrix[0, 0], matrix[1, 1], atol=1e-5)
        np.testing.assert_allclose(matrix[0, 1], -matrix[1, 0], atol=1e-5)
        assert abs(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0]))) < 10.01
        centre = np.linalg.solve(matrix[:, :2], np.array([23.5, 15.5]) - matrix[:, 2]) - (23.5, 15.5)
        assert (np.abs(centre) <= (0.06 * 48 + 1e-4, 0.06 * 32 + 1e-4)).all()


def test_a_matrix_of_pixels_by_hand():
    """An image of 4 rows and 8 columns, moved right by half of its width, that is 4 columns: back by 4."""
    np.testing.assert_allclose(_pixel_matrix([1, 0, -1, 0, 1, 0], 4, 8), [[1, 0, -4], [0, 1, 0]])
    # mirrored: column 0 from column 7; twice as high: row 0 from (0 - 1.5) / 2 + 1.5 = 0.75
    np.testing.assert_allclose(_pixel_matrix([-1, 0, 0, 0, 0.5, 0], 4, 8), [[-1, 0, 7], [0, 0.5, 0.75]])


def test_noise_is_standard_normal_and_differs_between_samples():
    table = noise_table()
    assert abs(table.mean()) < 0.01
    assert table.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(table) < 1).mean() == pytest.approx(0.6827, abs=0.005)
    assert (np.abs(table) > 3).mean() == pytest.approx(0.0027, abs=0.0005)
    assert np.abs(np.corrcoef(table[:-1], table[1:])[0, 1]) < 0.01
    starts = parameters(make_augmentation("medical"), 500)[:, 14]
    assert (starts == np.floor(starts)).all()
    assert 0 <= starts.min() < starts.max() < NOISE_LENGTH
    assert len(np.unique(starts)) > 490


@pytest.mark.parametrize("name", NAMES)
def test_parameters_depend_on_seed_and_key_alone(name):
    augmentation = make_augmentation(name)
    keys = np.array([[epoch, index, repeat, -1] for epoch in range(3) for index in range(9) for repeat in range(2)])
    together = augmentation.draw(3, keys, (32, 48))
    assert together.shape == (54, augmentation.num_parameters)
    assert together.dtype == np.float32
    for at in (0, 11, 53):
        assert (augmentation.draw(3, keys[at : at + 1], (32, 48)) == together[at]).all()
    assert (augmentation.draw(3, keys[::-1], (32, 48)) == together[::-1]).all()
    assert (augmentation.draw(4, keys, (32, 48)) != together).any()
    if name != "light":
        assert len(np.unique(together, axis=0)) == 54


def test_augmentations_can_be_pickled_for_spawned_workers():
    image, masks = sample()
    for name in NAMES:
        augmentation = make_augmentation(name)
        copy = pickle.loads(pickle.dumps(augmentation))
        for drawn in parameters(augmentation):
            assert torch.equal(*(one.apply(image, masks, drawn)[0] for one in (augmentation, copy)))


def test_none_gives_no_augmentation_and_an_unknown_name_lists_the_presets():
    assert make_augmentation("none") is None
    with pytest.raises(ValueError, match="'heavy' is unknown; expected one of none, light, medical, street"):
        make_augmentation("heavy")


def test_torchvision_transforms_depend_on_the_key_alone():
    own = TorchvisionTransforms(v2.RandomRotation(40, fill={tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}))
    image = torch.arange(3 * 20 * 30, dtype=torch.uint8).reshape(3, 20, 30)
    truth = torch.ones(2, 20, 30, dtype=torch.uint8)
    drawn = own.draw(7, np.array([[0, 4, 0, -1], [1, 4, 0, -1]]), (20, 30))
    before = torch.random.get_rng_state()
    first = [own.apply(image, truth, parameters) for parameters in drawn]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    again = [own.apply(image, truth, parameters) for parameters in drawn]
    assert all(
        torch.equal(a, b) for one, other in zip(first, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert not torch.equal(first[0][0], first[1][0])
    assert set(first[0][1].unique().tolist()) == {1, IGNORE}
