import sys

import numpy as np
import pytest
import torch

from seg_pipeline.segmentation.data.augmentation import albumentations_augmentation
from seg_pipeline.segmentation.images.masks import IGNORE


def sample(channels=3):
    """A bright box and a brighter one over part of it."""
    masks = torch.zeros(2, 32, 48, dtype=torch.uint8)
    masks[0, 8:20, 5:30] = 1
    masks[1, 18:28, 20:40] = 1
    image = (masks[0] * 120 + masks[1] * 100).expand(channels, 32, 48).contiguous()
    return image, masks


def drawn(augmentation, seed, image, truth):
    (parameters,) = augmentation.draw(seed, np.array([[1, 2]]), tuple(image.shape[1:]))
    assert len(parameters) == augmentation.num_parameters
    return augmentation.apply(image, truth, parameters)


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


def test_albumentations_depends_only_on_its_parameters_even_in_workers(pipeline):
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
        drawn(albumentations_augmentation(path), 0, *sample())


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
