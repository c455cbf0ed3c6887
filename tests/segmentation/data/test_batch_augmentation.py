"""A batch in torch is compared with the reference, which OpenCV computes for each sample."""

import cv2
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from seg_pipeline.segmentation.data.augmentation import make_augmentation
from seg_pipeline.segmentation.images.masks import IGNORE

NAMES = ["light", "medical", "street", "microscopy"]
NEUTRAL = {
    "light": [0],
    "medical": [1, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 77],
    "street": [1, 0, 0, 0, 1, 0, 1, 0, 0],
    "microscopy": [1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 77],
}


def batch(channels=3, classes=2, shape=(64, 96), number=12):
    """Smooth images of large contrast, and truth of blobs: uint8 (B, K, H, W) and (B, C, H, W)."""
    rng = np.random.default_rng(channels)
    images = [
        cv2.GaussianBlur(rng.integers(0, 256, (*shape, channels), dtype=np.uint8), (0, 0), 1) for _ in range(number)
    ]
    images = np.stack([cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).reshape(*shape, -1) for image in images])
    truth = [[cv2.GaussianBlur(rng.random(shape), (0, 0), 4) > 0.5 for _ in range(classes)] for _ in range(number)]
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(np.array(truth, dtype=np.uint8))


def drawn(augmentation, shape=(64, 96), number=12, seed=1):
    return augmentation.draw(seed, np.arange(number)[:, None], shape)


def one_by_one(augmentation, images, truth, parameters):
    samples = [augmentation.apply(*sample) for sample in zip(images, truth, parameters, strict=True)]
    return tuple(torch.stack(parts) for parts in zip(*samples, strict=True))


@pytest.mark.parametrize("classes", [None, 1, 2, 5], ids="truth {}".format)
@pytest.mark.parametrize(("channels", "shape"), [(1, (64, 96)), (3, (64, 96)), (3, (96, 32)), (5, (32, 64))])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_samples(name, channels, shape, classes):
    augmentation = make_augmentation(name, rgb=channels == 3)
    images, truth = batch(channels, classes or 1, shape)
    truth = truth if classes else truth[:, 0]
    parameters = drawn(augmentation, shape)
    expected, expected_truth = one_by_one(augmentation, images, truth, parameters)
    found, found_truth = augmentation.apply_batch(images, truth, torch.from_numpy(parameters))
    assert (found.dtype, found.shape, found.stride()) == (torch.uint8, images.shape, images.stride())
    assert (found_truth.dtype, found_truth.shape) == (torch.uint8, truth.shape)
    apart = (found.int() - expected.int()).abs().float()
    mean, most = (0.3, 4) if cv2.__version__ < "5" else (0.06, 1)  # before, places were rounded to 1/32 of a pixel
    assert apart.mean() < mean
    assert (apart > most).float().mean() < 2e-4
    assert (found_truth != expected_truth).float().mean() < 2e-4
    assert (found_truth == IGNORE).any() == (name != "light")


@pytest.mark.parametrize("name", NAMES)
def test_neutral_parameters_change_nothing(name):
    augmentation = make_augmentation(name)
    images, truth = batch()
    truth[:, :, :3] = IGNORE
    parameters = np.tile(np.array(NEUTRAL[name], dtype=np.float32), (12, 1))
    for found in (
        augmentation.apply_batch(images, truth, torch.from_numpy(parameters)),
        one_by_one(augmentation, images, truth, parameters),
    ):
        assert torch.equal(found[0], images)
        assert torch.equal(found[1], truth)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_does_not_depend_on_the_rest_of_the_batch(name):
    augmentation = make_augmentation(name)
    images, truth = batch()
    parameters = torch.from_numpy(drawn(augmentation))
    whole = augmentation.apply_batch(images, truth, parameters)
    part = augmentation.apply_batch(images[[7, 2]], truth[[7, 2]], parameters[[7, 2]])
    assert torch.equal(part[0], whole[0][[7, 2]])
    assert torch.equal(part[1], whole[1][[7, 2]])


CHANGES = {
    "brightness": {6: 1.1},
    "contrast": {6: 0.8, 7: 0.2},
    "gamma": {8: 1.5, 9: 255**-0.5},
    "blur": {10: 0.4, 11: 0.25, 12: 0.05},
    "noise": {13: 10, 14: 2**18 - 1000},  # the table ends within the image
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_intensity_equals_its_reference(change):
    augmentation = make_augmentation("medical")
    images, truth = batch(number=1)
    parameters = np.array([NEUTRAL["medical"]], dtype=np.float32)
    parameters[:, list(CHANGES[change])] = list(CHANGES[change].values())
    expected, _ = one_by_one(augmentation, images, truth, parameters)
    found, _ = augmentation.apply_batch(images, truth, torch.from_numpy(parameters))
    assert not torch.equal(expected, images)
    apart = (found.int() - expected.int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < (0.2 if change == "blur" else 0.002)  # OpenCV blurs with weights of 8 bits


def test_a_batch_keeps_its_memory_format():
    augmentation = make_augmentation("medical")
    images, truth = batch()
    parameters = torch.from_numpy(drawn(augmentation))
    planar = images.contiguous()
    found = augmentation.apply_batch(planar, truth, parameters)[0]
    assert found.stride() == planar.stride() != images.stride()
    assert torch.equal(found, augmentation.apply_batch(images, truth, parameters)[0])


class Calls(TorchDispatchMode):
    """Records the operators that compute, and those that copy between devices or tell the host a value."""

    def __init__(self):
        super().__init__()
        self.computed, self.waited = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result, name = function(*args, **(kwargs or {})), str(function)
        devices = {one.device.type for one in (*args, result) if isinstance(one, torch.Tensor)}
        if len(devices) > 1 or any(part in name for part in ("_local_scalar", "nonzero", "equal")):
            self.waited.append(name)
        views = "view", "slice", "select", "split", "unbind", "unsqueeze", "empty"
        if name.startswith("aten.") and not any(view in name for view in views):
            self.computed.append(name)
        return result


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize(("name", "most"), [("light", 7), ("medical", 44), ("street", 26), ("microscopy", 52)])
def test_a_batch_takes_few_operators_and_a_gpu_is_never_waited_for(name, most, classes):
    with FakeTensorMode(allow_non_fake_inputs=True):
        augmentation = make_augmentation(name).to("cuda")
        shape = (8, *([classes] if classes else []), 64, 96)
        images, truth = (torch.empty(size, dtype=torch.uint8, device="cuda") for size in [(8, 3, 64, 96), shape])
        parameters = torch.empty(8, augmentation.num_parameters, device="cuda")
        with Calls() as calls:
            moved, moved_truth = augmentation.apply_batch(images, truth, parameters)
    assert calls.waited == []
    assert len(calls.computed) <= most, calls.computed
    assert {moved.device.type, moved_truth.device.type} == {"cuda"}
    assert (moved.shape, moved_truth.shape) == (images.shape, truth.shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_one_graph_without_branches(name):
    augmentation = make_augmentation(name)
    images, truth = batch()
    parameters = torch.from_numpy(drawn(augmentation))
    found = torch.compile(augmentation.apply_batch, backend="eager", fullgraph=True)(images, truth, parameters)
    for one, other in zip(found, augmentation.apply_batch(images, truth, parameters), strict=True):
        assert torch.equal(one, other)
