"""What several processes share; two of them on the CPU, and the conversion that only GPUs use."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from seg_pipeline.segmentation.models.encoder_weights import PACKAGED_ENCODER
from seg_pipeline.segmentation.models.networks import build_model
from seg_pipeline.segmentation.training import processes
from seg_pipeline.segmentation.training.processes import unused_parameters, with_sync_batch_norm
from seg_pipeline.segmentation.training.state import start

IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def several_gpus(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    return torch.device("cuda", 0)


@pytest.mark.parametrize(
    "encoder",
    [
        PACKAGED_ENCODER,
        "resnet18",
        "efficientnet-b0",
        "tu-mobilenetv3_small_050",
        "tu-regnetx_002",
        "tu-test_efficientnet",
    ],
)
def test_batch_norm_over_several_gpus_computes_the_same(encoder, several_gpus):
    """torch's own conversion drops the activations of timm's norm layers: other logits from equal weights."""
    network = build_model("unet", encoder=encoder, encoder_weights=None, in_channels=3, num_classes=2).eval()
    with torch.inference_mode():
        before, names = network(IMAGE), list(network.state_dict())
        converted = with_sync_batch_norm(network, several_gpus)
        assert sum(isinstance(module, nn.SyncBatchNorm) for module in converted.modules()) > 10
        assert torch.equal(converted(IMAGE), before)
    assert list(converted.state_dict()) == names


def test_the_running_mean_follows_the_trained_network(config, several_gpus, monkeypatch):
    monkeypatch.setattr(processes.torch.nn.Module, "to", lambda self, *_, **__: self)  # there is no GPU here
    monkeypatch.setattr("seg_pipeline.segmentation.training.state.pick_precision", lambda *_: torch.float32)
    state = start(config.changed({"fit.ema": 0.9}), "", several_gpus)
    kinds = [[type(module) for module in model.modules()] for model in (state.model, state.mean.model)]
    assert kinds[0] == kinds[1]
    assert any(issubclass(kind, nn.SyncBatchNorm) for kind in kinds[0])


def test_parameters_without_a_gradient_are_found_and_nothing_else_changes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.unused = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 5)
            self.frozen = nn.Conv2d(4, 4, 1).requires_grad_(False)

        def forward(self, images):
            return self.frozen(self.norm(self.first(images)))

    model = Net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = unused_parameters(model, IMAGE)
    assert [tuple(one.shape) for one in found] == [(5, 2), (5,)]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())


def test_the_wrapped_model_keeps_no_copy_of_its_gradients():
    """pytest makes errors of warnings, such as torch 2.14's of a renamed argument."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        together = processes.Processes()
        together.world = 2
        wrapped = together.wrap(nn.Conv2d(3, 4, 3), torch.device("cpu"), IMAGE)
        wrapped(IMAGE).sum().backward()
        gradients = [one.grad.untyped_storage().data_ptr() for one in wrapped.parameters()]
        assert len(gradients) == 2
        assert len(set(gradients)) == 1  # both are views of the bucket that is exchanged
        assert not getattr(wrapped, processes._BUFFER_ARGUMENT)
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_every_architecture(warm, tmp_path):
    """Among them efficientnet-b0 and pspnet, whose unused parameters stop DDP at its second step."""
    warm.run_ranks(Path(__file__).with_name("steps_of_rank.py"), tmp_path)
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert len(found) == 25
        assert found == dict.fromkeys(found, "")
