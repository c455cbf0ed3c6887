import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from seg_pipeline.segmentation.settings.training import OptimizerSettings
from seg_pipeline.segmentation.training.optimizers import make_optimizer


@pytest.fixture
def model():
    """An smp network two levels down, as in a wrapped segmenter."""
    return nn.ModuleDict({"network": nn.Sequential(smp.Unet("resnet18", encoder_weights=None))})


def grouped_names(optimizer, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [{names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups]


def test_the_encoder_has_its_own_rate_and_norms_and_biases_no_decay(model):
    settings = OptimizerSettings(learning_rate=0.01, weight_decay=0.3, encoder_rate=0.1)
    optimizer = make_optimizer(model, settings)
    options = [(group["factor"], group["weight_decay"], group["lr"]) for group in optimizer.param_groups]
    assert options == [(0.1, 0.3, 0.001), (0.1, 0.0, 0.001), (1.0, 0.3, 0.01), (1.0, 0.0, 0.01)]

    groups = grouped_names(optimizer, model)
    assert set().union(*groups) == {name for name, _ in model.named_parameters()}
    assert sum(map(len, groups)) == len(list(model.parameters()))
    assert all(name.startswith("network.0.encoder.") for name in groups[0] | groups[1])
    assert not any(name.startswith("network.0.encoder.") for name in groups[2] | groups[3])
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    assert groups[1] | groups[3] == norms | {"network.0.segmentation_head.0.bias"}


def test_groups_with_equal_settings_are_merged(model):
    def options(**settings):
        return [
            (group["factor"], group["weight_decay"])
            for group in make_optimizer(model, OptimizerSettings(**settings)).param_groups
        ]

    assert options(weight_decay=0.3) == [(1.0, 0.3), (1.0, 0.0)]
    assert options(weight_decay=0.0, encoder_rate=0.5) == [(0.5, 0.0), (1.0, 0.0)]
    assert options(weight_decay=0.0) == [(1.0, 0.0)]


def test_a_frozen_encoder_is_left_out(model):
    optimizer = make_optimizer(model, OptimizerSettings(freeze_encoder=True, encoder_rate=0.1))
    assert [group["factor"] for group in optimizer.param_groups] == [1.0, 1.0]
    assert set().union(*grouped_names(optimizer, model)) == {
        name for name, _ in model.named_parameters() if ".encoder." not in name
    }
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == {
        name for name, _ in model.named_parameters() if ".encoder." in name
    }


def test_optimizers_are_the_named_ones_fused(model):
    adamw = make_optimizer(model, OptimizerSettings())
    sgd = make_optimizer(model, OptimizerSettings(name="sgd", momentum=0.8))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["betas"] == (0.9, 0.999)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, True)
    assert adamw.defaults["fused"] is sgd.defaults["fused"] is True


def step(model, optimizer, gradient, *, found_inf=None):
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    if found_inf is not None:
        optimizer.found_inf = torch.tensor(found_inf)
    optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_sgd_uses_nesterov_momentum():
    model = nn.Linear(3, 1)
    before = model.bias.detach().clone()
    optimizer = make_optimizer(model, OptimizerSettings(name="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.2))
    _, bias = step(model, optimizer, 1.0)
    torch.testing.assert_close(bias, before - 0.1 * (1 + 0.5 * 1))
    _, bias = step(model, optimizer, 2.0)  # momentum 0.5 × 1 + 2 = 2.5
    torch.testing.assert_close(bias, before - 0.15 - 0.1 * (2 + 0.5 * 2.5))


@pytest.mark.parametrize(
    "settings",
    [
        OptimizerSettings(),
        OptimizerSettings(name="sgd", learning_rate=0.1),
        OptimizerSettings(name="sgd", learning_rate=0.1, momentum=0.0),
    ],
    ids=["adamw", "sgd", "sgd without momentum"],
)
def test_a_step_with_infinite_gradients_changes_nothing(settings):
    models = [nn.Conv2d(3, 5, (1, 3)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    plain, watched = (make_optimizer(model, settings) for model in models)
    start = [parameter.detach().clone() for parameter in models[1].parameters()]
    # The first step of all is the one where torch's fused SGD would keep uninitialised momentum.
    torch.testing.assert_close(step(models[1], watched, torch.nan, found_inf=1.0), start, rtol=0, atol=0)
    for gradient in (1.0, -0.5):
        step(models[1], watched, torch.inf, found_inf=1.0)
        expected = step(models[0], plain, gradient)
        found = step(models[1], watched, gradient, found_inf=0.0)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert (found[0] != start[0]).all()
    torch.testing.assert_close(watched.state_dict()["state"], plain.state_dict()["state"], rtol=0, atol=0)
