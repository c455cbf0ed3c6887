"""The processes that train one model together; usually only one."""

import inspect
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_Value = TypeVar("_Value")
# torch 2.14 renamed the argument and warns about the old name.
_BUFFER_ARGUMENTS = ("forward_sync_buffers", "broadcast_buffers")
_BUFFER_ARGUMENT = next(
    name for name in _BUFFER_ARGUMENTS if name in inspect.signature(DistributedDataParallel).parameters
)


class TrainingFailed(RuntimeError):
    """Training cannot continue: a value is not finite, or a single image does not fit into memory."""


class OutOfMemory(TrainingFailed):
    """Memory is too small for the settings."""


class Processes:
    """Communication between the processes of a run. Without ``torch.distributed`` there is only this process."""

    def __init__(self) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        # Times are exchanged over the CPU, because a copy from the GPU would stall it.
        self._over_cpu: Any = dist.new_group(backend="gloo") if self.world > 1 else None

    def broadcast(self, value: float) -> float:
        """Return the value of the first process, on all processes."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0, group=self._over_cpu)
        return shared.item()

    def wrap(self, model: nn.Module, device: torch.device, example: torch.Tensor) -> nn.Module:
        """Wrap the model so that gradients are averaged over all processes. Parameters without a gradient are frozen.

        ``find_unused_parameters`` would search the graph for them in every step; the optimiser skips them either way.
        Buffers are not broadcast per step, as only rank 0's matter: ``broadcast_buffers`` does so before validation.

        Args:
            example: images (1, channels, H, W) to call ``model`` with.
        """
        if self.world == 1:
            return model
        for parameter in unused_parameters(model, example):
            parameter.requires_grad_(False)
        ids = [device.index] if device.type == "cuda" else None
        # Gradients as views of the exchanged buffers need no copy and no memory of their own.
        options: dict[str, Any] = {"gradient_as_bucket_view": True, _BUFFER_ARGUMENT: False}
        return DistributedDataParallel(model, device_ids=ids, **options)

    def broadcast_buffers(self, *models: nn.Module) -> None:
        """Copy the first process's batch statistics to all, so that all validate the same model."""
        if self.world > 1:
            for model in models:
                for buffer in model.buffers():
                    dist.broadcast(buffer, 0)

    def all_reduce(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        if self.world > 1:
            dist.all_reduce(value := value.clone())
        return value

    def all_gather(self, value: _Value) -> list[_Value]:
        """Collect the values of all processes, in order of their rank; tensors must be on the CPU."""
        if self.world == 1:
            return [value]
        values: list = [None] * self.world
        dist.all_gather_object(values, value, group=self._over_cpu)
        return values


def unused_parameters(model: nn.Module, example: torch.Tensor) -> list[nn.Parameter]:
    """Find trainable parameters that do not affect the output for ``example``. The model is not changed."""
    training = model.training
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    output = model.eval()(example)  # eval: batch norm takes one image and keeps its statistics
    model.train(training)
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is None]


def with_sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Convert ``model`` to batch statistics over all GPUs; unchanged on the CPU, for which torch has no such layer.

    Uses timm's conversion, because torch's silently drops the activation of timm's ``BatchNormAct2d``.
    """
    distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return convert_sync_batchnorm(model) if distributed and device.type == "cuda" else model


def join_process_group(folder: Path, *, cpu: bool) -> torch.device:
    """Join the process group that ``elastic_launch`` describes in the environment, and return this process's device.

    The processes find each other through a file in ``folder``, a new one after each restart, because elastic's own
    store handed some of them the addresses of processes that had died. On several machines the file is named after the
    port that the agents agreed on, because each machine counts its own restarts.
    """
    single_machine = os.environ["GROUP_WORLD_SIZE"] == "1"
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT" if single_machine else "MASTER_PORT"]
    rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
    cuda = torch.cuda.is_available() and not cpu
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    store = dist.FileStore(str(folder / f"meeting_{attempt}"), int(world))  # type: ignore[attr-defined]
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=int(rank), world_size=int(world))
    return device
