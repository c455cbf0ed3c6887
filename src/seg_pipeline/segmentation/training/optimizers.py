"""Create the optimizer of a model; the encoder can have a lower learning rate or be frozen."""

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from seg_pipeline.segmentation.settings.training import OptimizerSettings


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) or SGD with Nesterov momentum, fused.

    Each group has ``factor``, its fraction of the scheduled rate: ``encoder_rate`` for parameters of an ``encoder``,
    1 for the rest. Biases and the parameters of norm layers (one axis) have no weight decay. With ``freeze_encoder``
    the encoder's parameters are left out, and no longer require a gradient.

    ``optimizer.found_inf = torch.tensor(1.0)`` makes ``step`` leave parameters and state unchanged without waiting for
    the device, as torch.amp.GradScaler does with fused optimizers. Set it back to 0 or delete it.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        in_encoder = "encoder" in name.split(".")[:-1]
        if in_encoder and settings.freeze_encoder:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            factor = settings.encoder_rate if in_encoder else 1.0
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return _make(
        settings,
        [
            {"params": params, "weight_decay": decay, "factor": factor, "lr": settings.learning_rate * factor}
            for (factor, decay), params in groups.items()
        ],
    )


def _make(settings: OptimizerSettings, groups: list[dict]) -> Optimizer:
    if settings.name == "adamw":
        return place_learning_rates(AdamW(groups, lr=settings.learning_rate, fused=True))
    momentum = settings.momentum
    sgd = SGD(groups, lr=settings.learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    if momentum:
        # A skipped first step (`found_inf`) would leave these buffers uninitialised in torch 2.14.
        for parameter in (parameter for group in groups for parameter in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return place_learning_rates(sgd)


def place_learning_rates(optimizer: Optimizer) -> Optimizer:
    """Store learning rates of GPU parameters on the GPU, where a CUDA graph reads them; otherwise as numbers.

    Call it again after ``load_state_dict``, which restores them as they were on another device.
    """
    for group in optimizer.param_groups:
        device = group["params"][0].device
        group["lr"] = float(group["lr"])
        if device.type == "cuda":
            group["lr"] = torch.full((), group["lr"], device=device)
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"
    return optimizer


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all groups, each with its factor, without waiting for the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["factor"])
        else:
            group["lr"] = rate * group["factor"]


def largest_rate(optimizer: Optimizer) -> float:
    """The highest learning rate of all groups; waits for the device."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
