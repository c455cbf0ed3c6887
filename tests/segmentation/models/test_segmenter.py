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
