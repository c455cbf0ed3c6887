import pickle
import sys

import pytest
import torch
from torchvision import tv_tensors

from seg_pipeline.segmentation.data.augmentation import PRESETS, albumentations_augmentation, make_augmentation
from seg_pipeline.segmentation.images.masks import IGNORE

NAMES = [name for name in PRESETS if name != "none"]


def sample(channels=3):
    """A bright box and a brighter one over part of it."""
    masks = torch.zeros(2, 32, 48, dtype=torch.uint8)
    masks[0, 8:20, 5:30] = 1
    masks[1, 18:28, 20:40] = 1
    image = (masks[0] * 120 + masks[1] * 100).expand(channels, 32, 48).contiguous()
    return image, masks


def drawn(augmentation, seed, image, truth):
    torch.manual_seed(seed)
    return augmentation(image, truth)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_image_and_masks_move_together(name, channels):
    augmentation = make_augmentation(name, rgb=channels == 3)
    image, masks = sample(channels)
    for seed in range(8):
        moved, moved_masks = drawn(augmentation, seed, image, masks)
        assert moved.shape == image.shape
        assert moved.dtype == moved_masks.dtype == torch.uint8
        assert set(moved_masks.unique().tolist()) <= {0, 1, IGNORE}
        inside = moved.float().mean(0)
        assert inside[(moved_masks == 1).all(0)].mean() > inside[(moved_masks == 0).all(0)].mean() + 50


@pytest.mark.parametrize("name", NAMES)
def test_multiclass_truth_moves_like_masks(name):
    augmentation = make_augmentation(name)
    image, masks = sample()
    for seed in range(8):
        one, moved_masks = drawn(augmentation, seed, image, masks)
        other, moved_truth = drawn(augmentation, seed, image, masks[1])
        assert torch.equal(one, other)
        assert torch.equal(moved_truth, moved_masks[1])
        assert isinstance(moved_truth, tv_tensors.Mask)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_not_changed_in_place_and_stay_channels_last(name):
    image, masks = sample()
    by_pixel = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # same values, other strides
    for seed in range(8):
        one, other = (drawn(make_augmentation(name), seed, form, masks) for form in (image, by_pixel))
        assert torch.equal(one[0], other[0])
    assert torch.equal(image, sample()[0])
    assert torch.equal(masks, sample()[1])


@pytest.mark.parametrize("name", ["medical", "street"])
def test_pixels_from_outside_the_frame_are_ignored(name):
    augmentation = make_augmentation(name)
    image, masks = torch.full((3, 32, 48), 255, dtype=torch.uint8), torch.ones(2, 32, 48, dtype=torch.uint8)
    seen = 0
    for seed in range(10):
        _, moved_masks = drawn(augmentation, seed, image, masks)
        outside = (moved_masks == IGNORE).any(0)
        seen += outside.sum()
        assert (moved_masks == IGNORE).all(0)[outside].all()
        assert (moved_masks == 1).all(0)[~outside].all()
    assert seen > 100


def test_mirroring_alone_moves_pixels_exactly():
    image = torch.arange(32 * 48, dtype=torch.float32).remainder(251).to(torch.uint8).reshape(1, 32, 48)
    forms = {drawn(make_augmentation("light"), seed, image, image[0])[0].numpy().tobytes() for seed in range(20)}
    assert forms == {image.numpy().tobytes(), image.flip(-1).numpy().tobytes()}


def test_the_medical_preset_never_mirrors_and_street_does():
    image = torch.zeros(3, 32, 48, dtype=torch.uint8)
    image[:, :, 36:] = 200

    def sides(name):
        moved = (drawn(make_augmentation(name), seed, image, image[0])[0][:, 8:24].float() for seed in range(30))
        return {(part[..., 24:].mean() > part[..., :24].mean()).item() for part in moved}

    assert sides("medical") == {True}
    assert sides("street") == {True, False}


def test_grey_stays_grey_and_other_channels_change_alike():
    grey, colour = sample()[0], torch.tensor([200, 100, 60], dtype=torch.uint8)[:, None, None].repeat(1, 32, 48)
    turned = colour[[2, 0, 1]]
    same = []
    for seed in range(6):
        red, green, blue = drawn(make_augmentation("street"), seed, grey, grey[0])[0].int()
        assert (red - green).abs().max() <= 1  # rounded
        assert (red - blue).abs().max() <= 1
        for rgb in (True, False):
            one, other = (
                drawn(make_augmentation("street", rgb=rgb), seed, image, grey[0])[0] for image in (colour, turned)
            )
            same.append((rgb, torch.equal(one[[2, 0, 1]], other)))
    assert set(same) == {(True, False), (False, True)}


def test_augmentation_depends_only_on_torchs_seed():
    image, masks = sample()
    for name in ("medical", "street"):
        augmentation = make_augmentation(name)
        first = drawn(augmentation, 3, image, masks)
        again, other = drawn(augmentation, 3, image, masks), drawn(augmentation, 4, image, masks)
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])
        assert not torch.equal(first[0], other[0])


def test_augmentations_can_be_pickled_for_spawned_workers():
    image, masks = sample()
    for name in NAMES:
        augmentation = make_augmentation(name)
        copy = pickle.loads(pickle.dumps(augmentation))
        assert torch.equal(drawn(augmentation, 1, image, masks)[0], drawn(copy, 1, image, masks)[0])


def test_none_gives_no_augmentation_and_an_unknown_name_lists_the_presets():
    assert make_augmentation("none") is None
    with pytest.raises(ValueError, match="'heavy' is unknown; expected one of none, light, medical, street"):
        make_augmentation("heavy")


# albumentations


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A function that saves a pipeline of these transforms, and its file."""
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    library = pytest.importorskip("albumentations", reason="the extra [albumentations] is not installed")

    def save(ending, *transforms):
        path = tmp_path / f"pipeline.{ending}"
        data_format = "json" if ending == "json" else "yaml"
        library.save(library.Compose([getattr(library, name)(**kw) for name, kw in transforms]), path, data_format)
        return path

    return save


TURN = ("Affine", {"rotate": (-20, 20), "translate_percent": (-0.2, 0.2), "p": 1.0})
NOISE = ("GaussNoise", {"p": 1.0})


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_albumentations_moves_image_and_truth_together(pipeline, ending):
    augmentation = albumentations_augmentation(pipeline(ending, TURN))
    image, masks = sample()
    outside = 0
    for seed in range(5):
        moved, moved_masks = drawn(augmentation, seed, image, masks)
        assert (moved.shape, moved_masks.shape) == (image.shape, masks.shape)
        assert set(moved_masks.unique().tolist()) <= {0, 1, IGNORE}
        outside += (moved_masks == IGNORE).sum()
        inside = moved.float().mean(0)
        assert inside[(moved_masks == 1).all(0)].mean() > inside[(moved_masks == 0).all(0)].mean() + 50
        assert torch.equal(drawn(augmentation, seed, image, masks[1])[1], moved_masks[1])
    assert outside > 0


def test_blanking_only_the_image_keeps_its_truth(pipeline):
    augmentation = albumentations_augmentation(pipeline("yaml", ("CoarseDropout", {"fill": 7, "p": 1.0})))
    image, masks = sample()
    moved, same = drawn(augmentation, 0, image, masks)
    assert torch.equal(same, masks)
    assert (moved == 7).any()


@pytest.mark.parametrize("channels", [1, 5])
def test_albumentations_supports_any_number_of_channels(pipeline, channels):
    image, masks = sample(channels)
    moved, _ = drawn(albumentations_augmentation(pipeline("yaml", TURN, NOISE)), 0, image, masks)
    assert moved.shape == image.shape


def test_albumentations_depends_only_on_torchs_seed_even_in_workers(pipeline):
    augmentation = albumentations_augmentation(pipeline("yaml", TURN, NOISE))

    class Samples(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return drawn(augmentation, index % 3, *sample())

    here, there = (list(torch.utils.data.DataLoader(Samples(), num_workers=n, timeout=60 * (n > 0))) for n in (0, 2))
    assert all(
        torch.equal(a, b) for one, other in zip(here, there, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert torch.equal(here[0][0], here[3][0])
    assert not torch.equal(here[0][0], here[1][0])


def test_an_albumentations_pipeline_may_not_change_the_size(pipeline):
    path = pipeline("yaml", ("CenterCrop", {"height": 16, "width": 24, "p": 1.0}))
    with pytest.raises(ValueError, match=r"pipeline.yaml: returns an image uint8 \(16, 24\) .*leave resizing"):
        albumentations_augmentation(path)(*sample())


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.yaml", "transform: {}", "KeyError"),
        ("a.json", "[1, 2", "JSONDecodeError"),
        ("a.txt", "", r"the file name ends in '.txt', expected .yaml, .yml or .json"),
        ("b.yaml", None, "FileNotFoundError"),
    ],
)
def test_a_file_that_is_not_a_pipeline_is_reported(pipeline, tmp_path, name, text, reason):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(
        ValueError, match=rf"{name}: not a pipeline that albumentations .*{reason}.*albumentations.save"
    ):
        albumentations_augmentation(tmp_path / name)


def test_a_missing_extra_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(
        ValueError, match=r"albumentations: p.yaml` needs .*`pip install seg_pipeline\[albumentations\]`"
    ):
        albumentations_augmentation("p.yaml")
