from dataclasses import replace

import pytest
import torch

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.metrics.overlap import count
from seg_pipeline.segmentation.models.segmenter import Segmenter


def test_masks_of_a_multiclass_task_leave_the_background_out(config):
    model = Segmenter(replace(config, task="multiclass", background=True), pretrained=False).eval()
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 3, 32, 32)
    logits = torch.tensor([[5.0, 0, 0], [1, 2, 0], [0, 1, 3]]).T.view(1, 3, 1, 3)  # background, box, disc
    assert model.masks(logits, threshold=0.5).int().tolist() == [[[[0, 1, 0]], [[0, 0, 1]]]]


def test_the_threshold_is_a_probability(config):
    model = Segmenter(config, pretrained=False)
    logits = torch.logit(torch.tensor([0.29, 0.31])).view(1, 2, 1, 1)
    assert model.masks(logits, threshold=0.3).flatten().tolist() == [False, True]


@pytest.mark.parametrize("background", [True, False])
def test_counts_of_a_label_map_are_those_of_its_masks(config, background):
    model = Segmenter(replace(config, task="multiclass", background=background), pretrained=False)
    torch.manual_seed(1)
    logits = torch.randn(3, 2 + background, 4, 5)
    truth = torch.randint(0, 2 + background, (3, 4, 5), dtype=torch.uint8)
    truth[0, :2] = IGNORE
    classes = torch.arange(background, 2 + background).view(1, -1, 1, 1)
    masks = (truth[:, None] == classes).byte().masked_fill(truth[:, None] == IGNORE, IGNORE)
    expected = count(model.masks(logits, threshold=0.5), masks)
    for found, wanted in zip(model.counts(logits, truth, threshold=0.5), expected, strict=True):
        assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize(("channels", "number"), [("grey", 1), ((-1, 0, 1, 2), 4)])
def test_the_network_takes_as_many_channels_as_the_input_has(config, channels, number):
    model = Segmenter(config.changed({"input.channels": channels}), pretrained=False).eval()
    assert model(torch.zeros(1, number, 32, 64, dtype=torch.uint8)).shape == (1, 2, 32, 64)


def test_a_frozen_encoder_keeps_its_batch_statistics_in_training(config):
    model = Segmenter(config.changed({"optimizer.freeze_encoder": True}), pretrained=False).train()
    assert not any(module.training for module in model.net.encoder.modules())
    assert model.net.decoder.training


class Ramp(torch.nn.Module):
    """Logits of cells of some pixels: the row and the column, in pixels, of the cell's centre."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, images):
        rows, columns = (
            torch.arange(side // self.cell) * self.cell + (self.cell - 1) / 2 for side in images.shape[-2:]
        )
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None].float()


@pytest.mark.parametrize("cell", [1, 2, 4])
@pytest.mark.parametrize(("stride", "first"), [(2, [1, 3, 5]), (4, [2, 6, 10]), (8, [4, 12, 20])])
def test_at_a_stride_logits_and_truth_are_of_the_same_pixels(config, cell, stride, first):
    """Logits that are a pixel's own row and column: at a stride of 2 those of pixels 1, 3, 5, ..., as of the truth."""
    model = Segmenter(config.changed({"loss.pixel_stride": stride}), pretrained=False)
    model.net = Ramp(cell)
    images = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    truth = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij"))
    logits, seen = model.train()(images)[0], model.subsample(truth)
    assert seen[0, :3, 0].tolist() == seen[1, 0, :3].tolist() == first
    assert logits.shape == seen.shape == (2, 64 // stride, 96 // stride)
    torch.testing.assert_close(logits[..., 1:-1, 1:-1], seen[..., 1:-1, 1:-1])  # beyond the last centre nothing rises
    whole = model.eval()(images)[0]
    torch.testing.assert_close(logits, whole[:, stride // 2 :: stride, stride // 2 :: stride])
