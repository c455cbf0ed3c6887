import pickle
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from seg_pipeline.segmentation.data.augmentation import make_augmentation
from seg_pipeline.segmentation.data.cache import open_cache
from seg_pipeline.segmentation.data.datasets import (
    ConcatDataset,
    Draw,
    ImageMaskDataset,
    VisionImageMaskDataset,
    make_dataset,
    to_native,
)
from seg_pipeline.segmentation.data.geometry import input_shapes
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.settings.training import InputSettings, SourceInput

MULTILABEL = {"task": "multilabel", "background": False}
MULTICLASS = {"task": "multiclass", "background": True}
FITS = {
    "resize": InputSettings(size=(32, 64)),
    "pad": InputSettings(size=(32, 64), resize_mode="pad"),
    "crop": InputSettings(size=(32, 64), resize_mode="crop", scale=0.7, zoom=1.5, foreground=0.5),
}


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("augmentation", ["none", "medical"])
@pytest.mark.parametrize("form", [MULTILABEL, MULTICLASS], ids=["multilabel", "multiclass"])
@pytest.mark.parametrize("channels", ["rgb", (-2, -1, 0, 1, 2)], ids=["rgb", "frames"])
@pytest.mark.parametrize("fit", FITS)
def test_cached_and_uncached_data_sets_give_the_same_samples(mixed, tmp_path, fit, channels, form, augmentation):
    settings = replace(FITS[fit], channels=channels)
    about = {**form, "augmentation": make_augmentation(augmentation), "seed": 4}
    plain = ImageMaskDataset(mixed, settings, **about)
    for mode in ("none", "ram", "disk"):
        cache = open_cache(mixed, settings, **form, mode=mode, folder=tmp_path)
        assert (cache is None) == (mode == "none")
        vision = VisionImageMaskDataset(mixed, settings, **about, cache=cache)
        assert len(vision) == len(plain) == 6
        for index in range(6):
            for key in (index, Draw(1, index), Draw(2, index, 1)):
                assert equal(vision[key], plain[key])
                assert [type(part) for part in vision[key]] == [tv_tensors.Image, tv_tensors.Mask]


def test_a_sample_at_native_size_has_the_pixels_of_the_file(manifest):
    image, truth = ImageMaskDataset(manifest, InputSettings(size=(32, 64)), **MULTILABEL)[3]
    assert (image.shape, truth.shape) == ((3, 32, 64), (2, 32, 64))
    whole = InputSettings(size=(32, 64), resize_mode="crop", channels="grey")
    image, truth = ImageMaskDataset(manifest, whole, **MULTILABEL)[3]
    row = manifest.iloc[3]
    assert image.dtype == truth.dtype == torch.uint8
    assert (image.shape, truth.shape) == ((1, 64, 64), (2, 64, 64))  # 40 x 48 filled up to multiples of 32
    np.testing.assert_array_equal(image[0, :40, :48].numpy(), cv2.imread(row["path"], 0))
    assert not image[:, 40:].any()
    assert not image[:, :, 48:].any()
    inner = truth[:, :40, :48]
    assert inner.sum((1, 2)).tolist() == [row["area_box"], row["area_disc"]]
    assert (truth == IGNORE).sum() == 2 * (64 * 64 - 40 * 48)


def test_padding_fills_below_and_to_the_right(mixed):
    image, truth = ImageMaskDataset(mixed, FITS["pad"], **MULTILABEL)[4]
    # 50 x 30 into 32 x 64: 32 x 19
    assert image[:, :, :19].any(dim=0).all()
    assert not image[:, :, 19:].any()
    assert (truth[:, :, 19:] == IGNORE).all()
    assert (truth[0, :-1, :6] == 1).all()
    assert set(truth[:, :-1, :19].unique().tolist()) == {0, 1}


def test_multiclass_truth_is_the_index_of_the_logits_channel(mixed):
    settings = InputSettings(size=(32, 64), resize_mode="crop")
    (_, multi), (_, one), (_, bare) = (
        ImageMaskDataset(mixed, settings, task=task, background=background)[0]
        for task, background in [("multilabel", False), ("multiclass", True), ("multiclass", False)]
    )
    left, top, known = multi[0] == 1, multi[1] == 1, multi[0] != IGNORE
    assert (left & top).any()
    expected = torch.zeros(64, 64, dtype=torch.uint8)
    expected[left], expected[top], expected[~known] = 1, 2, IGNORE  # where both claim a pixel, the last wins
    assert torch.equal(one, expected)
    expected = torch.full((64, 64), IGNORE, dtype=torch.uint8)
    expected[left], expected[top] = 0, 1
    assert torch.equal(bare, expected)
    _, empty = ImageMaskDataset(mixed, settings, **MULTICLASS)[5]
    assert not empty.any()  # 64 x 32, no class, all known


def test_more_classes_than_fit_in_a_byte_are_refused(manifest):
    many = manifest.assign(**{f"mask_c{number}": "" for number in range(252)})
    ImageMaskDataset(many, FITS["resize"], **MULTILABEL)
    with pytest.raises(ValueError, match="254 classes are too many: a mask has at most 254 channels"):
        ImageMaskDataset(many, FITS["resize"], **MULTICLASS)


def test_randomness_depends_on_seed_and_draw_only(manifest):
    def dataset(seed=1):
        return ImageMaskDataset(
            manifest, FITS["crop"], **MULTILABEL, augmentation=make_augmentation("medical"), seed=seed
        )

    one, other = dataset(), dataset()
    other[Draw(2, 3)], torch.rand(7)  # what was read or drawn before must not matter
    assert equal(one[Draw(1, 3)], other[Draw(1, 3)])
    assert equal(one[Draw(1, 3)], one[Draw(1, 3)])
    for different in (one[Draw(2, 3)], one[Draw(1, 3, 1)], dataset(seed=2)[Draw(1, 3)]):
        assert not equal(one[Draw(1, 3)], different)


def test_torchs_random_state_is_not_changed(manifest):
    dataset = ImageMaskDataset(manifest, FITS["crop"], **MULTILABEL)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    dataset[Draw(0, 1)]
    assert torch.equal(torch.rand(3), expected)


def test_augmentation_does_not_change_cached_pixels(manifest):
    cache = open_cache(manifest, FITS["resize"], **MULTILABEL, mode="ram", folder=None)

    class Blacken:
        num_parameters = 0

        def draw(self, _seed, keys, _shape):
            return np.empty((len(keys), 0), dtype=np.float32)

        def apply(self, image, truth, _):
            return image.zero_(), truth.fill_(7)

    dataset = VisionImageMaskDataset(manifest, FITS["resize"], **MULTILABEL, augmentation=Blacken(), cache=cache)
    before = [part.clone() for part in dataset[5]]
    assert not dataset[Draw(0, 5)][0].any()
    assert equal(dataset[5], before)


@pytest.mark.parametrize("kind", [ImageMaskDataset, VisionImageMaskDataset])
def test_augmentation_can_be_left_to_the_batch(manifest, kind):
    """The data set then gives the windows and the parameters."""
    form = {**MULTILABEL, "augmentation": make_augmentation("medical"), "seed": 3}
    here, later = (kind(manifest, FITS["crop"], **form, augment=augment) for augment in ("sample", "batch"))
    plain = kind(manifest, FITS["crop"], **MULTILABEL, seed=3)
    draws = [Draw(1, 3), Draw(1, 2), Draw(2, 3, 1)]
    table = later.parameters(draws)
    assert (table.dtype, table.shape) == (np.float32, (3, 15))
    for draw, expected, sample in zip(draws, table, later.__getitems__(draws), strict=True):
        image, truth, parameters = later[draw]
        assert equal(sample, (image, truth, parameters))
        assert equal(plain[draw], (image, truth))
        assert parameters.tolist() == expected.tolist()
        assert equal(here[draw], form["augmentation"].apply(image, truth, parameters))
    assert equal(later[3], plain[3])
    assert plain.parameters(draws).shape == (3, 0)


def test_with_a_cache_the_manifest_is_not_kept(manifest):
    cache = open_cache(manifest, FITS["resize"], **MULTILABEL, mode="ram", folder=None)
    dataset = VisionImageMaskDataset(manifest, FITS["resize"], **MULTILABEL, cache=cache)
    dataset.source = None
    assert len(manifest["mask_box"].iloc[3]) > 50
    assert manifest["mask_box"].iloc[3].encode() not in pickle.dumps(dataset)


def test_a_changed_file_is_an_error(manifest):
    dataset = ImageMaskDataset(manifest.assign(height=41), FITS["resize"], **MULTILABEL)
    with pytest.raises(
        ValueError, match=r"scan00.png: image is 40 x 48 .* the manifest says 41 x 48: the file has changed"
    ):
        dataset[0]


# ---- channels: K frames of a series


def frames_of(mixed, offsets, edge):
    """For each channel, the frame of the same series whose stored pixels it shows, or None for black."""
    settings = InputSettings(size=(32, 64), channels=offsets, edge=edge)
    grey = InputSettings(size=(32, 64), channels="grey")
    images = [image for image, _ in ImageMaskDataset(mixed, settings, **MULTILABEL)]
    single = {
        row["image_id"]: ImageMaskDataset(mixed, grey, **MULTILABEL)[index][0][0]
        for index, row in enumerate(mixed.to_dict("records"))
    }
    single[None] = torch.zeros(32, 64, dtype=torch.uint8)
    return [
        [next(name for name, values in single.items() if torch.equal(channel, values)) for channel in image]
        for image in images
    ]


def test_frames_beyond_an_end_or_in_a_gap_repeat_the_nearest(mixed):
    assert frames_of(mixed, (-2, 0, 1), "repeat") == [
        ["a1", "a1", "a2"],
        ["a1", "a2", "a2"],  # frame 0 is not there, frame 1 is nearest to it; frame 3 is not there
        ["a2", "a4", "a5"],
        ["a4", "a5", "a5"],  # frame 3 is not there
        ["b1", "b1", "b2"],  # never a frame of series a
        ["b1", "b2", "b2"],
    ]


def test_frames_beyond_an_end_or_in_a_gap_are_black(mixed):
    assert frames_of(mixed, (-2, 0, 1), "black") == [
        [None, "a1", "a2"],
        [None, "a2", None],
        ["a2", "a4", "a5"],
        [None, "a5", None],
        [None, "b1", "b2"],
        [None, "b2", None],
    ]


def test_frames_are_those_of_the_given_manifest_only(mixed):
    assert frames_of(mixed.drop(index=1).reset_index(drop=True), (0, 1), "black")[0] == ["a1", None]


def test_a_frame_of_another_size_is_resized_to_the_image(mixed):
    settings = InputSettings(size=(32, 32), resize_mode="crop", channels=(-1, 0))
    image, truth = ImageMaskDataset(mixed, settings, **MULTILABEL)[3]  # 40 x 48; its neighbour 24 x 70
    assert image.shape == (2, 64, 64)
    stored = cv2.imread(mixed["path"][2], 0)
    np.testing.assert_array_equal(
        image[0, :40, :48].numpy(), cv2.resize(stored, (48, 40), interpolation=cv2.INTER_LINEAR)
    )
    assert truth.shape == (2, 64, 64)


@pytest.mark.parametrize("frame", [None, 1])
def test_unknown_frames_are_refused(mixed, frame):
    frames = mixed["frame"].astype("Int64")
    frames[1] = frame
    with pytest.raises(ValueError, match=r"a\d: frame (<NA>|1) of series a is missing or duplicated \([12] such im"):
        ImageMaskDataset(mixed.assign(frame=frames), InputSettings(channels=(0, 1)), **MULTILABEL)


# ---- back to native size


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("native", [(40, 48), (24, 70), (50, 30), (333, 17)])
def test_a_mask_that_fills_the_image_still_fills_it_at_native_size(fit, native):
    settings = FITS[fit]
    (height, width), filled = input_shapes(*native, settings)
    logits = torch.full((2, *filled), -1e6)  # what the network says of the filling must not matter
    logits[:, :height, :width] = 5.0
    torch.testing.assert_close(to_native(logits, *native, settings), torch.full((2, *native), 5.0))


def test_a_larger_batch_is_cropped_too():
    settings = InputSettings(size=(32, 32), resize_mode="crop")
    logits = torch.full((1, 96, 128), -9.0)
    logits[:, :40, :48] = torch.arange(48.0)
    assert torch.equal(to_native(logits, 40, 48, settings)[0, 7], torch.arange(48.0))


def test_to_native_is_linear_between_pixel_centres():
    logits = torch.zeros(1, 32, 32)
    logits[0, :, 0] = 4.0
    # 64 columns from 32: centres at 0.25 steps; -0.25 -> the first column, 0.25 -> a quarter of the way
    assert to_native(logits, 32, 64, InputSettings(size=(32, 32)))[0, 3, :4].tolist() == [4.0, 3.0, 1.0, 0.0]


# ---- several data sets as one


def test_joined_data_sets_accept_indices_and_draws(manifest, mixed):
    first = ImageMaskDataset(manifest, FITS["crop"], **MULTILABEL, seed=1)
    second = VisionImageMaskDataset(mixed, FITS["crop"], **MULTILABEL, seed=2)
    both = ConcatDataset([first, second])
    assert len(both) == 22
    assert equal(both[15], first[15])
    assert equal(both[16], second[0])
    assert equal(both[Draw(3, 15, 1)], first[Draw(3, 15, 1)])
    assert equal(both[Draw(3, 16, 1)], second[Draw(3, 0, 1)])
    assert equal(both[-1], second[5])
    with pytest.raises(IndexError, match="index 22 is out of range; the data sets have 22 samples"):
        both[Draw(0, 22)]


def test_joined_data_sets_draw_with_their_own_seeds_in_any_order(manifest, mixed):
    form = {**MULTILABEL, "augmentation": make_augmentation("medical")}
    first = ImageMaskDataset(manifest, FITS["crop"], **form, seed=1)
    second = VisionImageMaskDataset(mixed, FITS["crop"], **form, seed=2)
    both = ConcatDataset([first, second])
    draws = [Draw(3, 17), Draw(3, 2), Draw(3, 16, 1), Draw(3, 15)]
    alone = [(second, Draw(3, 1)), (first, Draw(3, 2)), (second, Draw(3, 0, 1)), (first, Draw(3, 15))]
    table = both.parameters(draws)
    for (dataset, draw), parameters, sample in zip(alone, table, both.__getitems__(draws), strict=True):
        assert equal(dataset[draw], sample)
        assert (dataset.parameters([draw])[0] == parameters).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_accepts_draws_with_any_number_of_workers(manifest, tmp_path, workers):
    cache = open_cache(manifest, FITS["crop"], **MULTILABEL, mode="disk", folder=tmp_path)
    dataset = VisionImageMaskDataset(manifest, FITS["crop"], **MULTILABEL, cache=cache)
    draws = [Draw(1, index) for index in (3, 1, 2)]
    ((images, truth),) = DataLoader(dataset, batch_size=3, sampler=draws, num_workers=workers)
    assert (images.shape, truth.shape) == ((3, 3, 32, 64), (3, 2, 32, 64))
    assert all(equal((images[at], truth[at]), dataset[draw]) for at, draw in enumerate(draws))


@pytest.mark.parametrize(("task", "label"), [("multilabel", 1), ("multiclass", 2)])
@pytest.mark.parametrize("cached", [False, True])
def test_a_window_shows_the_class_it_was_drawn_for(mixed, task, label, cached):
    """The class "top" of the first image, whatever else the image shows."""
    settings, form = (
        InputSettings(size=(32, 32), resize_mode="crop", scale=4.0),
        {"task": task, "background": task[5:] == "class"},
    )
    cache = open_cache(mixed, settings, **form, mode="ram", folder=None) if cached else None
    dataset = VisionImageMaskDataset(mixed, settings, **form, cache=cache)
    for epoch in range(20):
        _, truth = dataset[Draw(epoch, 0, 0, label)]
        assert (truth[label] == 1).any() if task == "multilabel" else (truth == label).any()
    shown = [bool((dataset[Draw(epoch, 0)][1] == label).any()) for epoch in range(40)]
    assert task == "multilabel" or not all(shown)  # without a label, windows lie anywhere


def test_each_source_is_normalised_in_its_own_way_and_keeps_its_place(mixed):
    rows = mixed.assign(source=["a"] * 4 + ["b"] * 2)
    own = {"b": SourceInput(normalisation="fixed", window=(0, 50))}
    settings = InputSettings(size=(32, 64), by_source=own)
    joined = make_dataset(rows, settings, task="multilabel", background=False, seed=5)
    assert isinstance(joined, ConcatDataset)
    for index in range(6):
        alone = (
            InputSettings(size=(32, 64), normalisation="fixed", window=(0, 50))
            if index > 3
            else InputSettings(size=(32, 64))
        )
        expected = VisionImageMaskDataset(mixed.iloc[[index]], alone, task="multilabel", background=False)[0]
        assert all(torch.equal(*pair) for pair in zip(joined[index], expected, strict=True))


def test_a_manifest_of_one_data_set_is_one_data_set(mixed):
    one = make_dataset(mixed, InputSettings(), task="multilabel", background=False)
    assert isinstance(one, VisionImageMaskDataset)


@pytest.mark.parametrize(
    ("common", "own", "message"),
    [
        ("image", SourceInput(normalisation="encoder"), "encoder beside `normalisation: image` would need a mean"),
        ("encoder", SourceInput(normalisation="training"), "training beside `normalisation: encoder`"),
        ("encoder", SourceInput(normalisation="fixed"), "`by_source.b`: `normalisation: fixed` needs `window`"),
    ],
)
def test_sources_share_the_mean_that_the_network_subtracts(common, own, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        InputSettings(normalisation=common, by_source={"b": own})
