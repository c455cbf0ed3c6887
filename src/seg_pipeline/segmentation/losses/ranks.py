"""Sums over the processes that train together, with gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def num_ranks() -> int:
    """Number of processes that train together; 1 without gradients, when each rank validates its own batches."""
    distributed = torch.is_grad_enabled() and dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if distributed else 1


def global_sum(local: Tensor) -> Tensor:
    """Sum over all ranks, available on each; ``local`` itself in a single process."""
    return _GlobalSum.apply(local) if num_ranks() > 1 else local


class _GlobalSum(Function):
    """All-reduce whose gradient is scaled by the number of ranks, because DDP averages the ranks' gradients.

    torch.distributed.nn's all_reduce does the same with a second exchange and is deprecated since torch 2.14.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:  # noqa: ARG004
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return grad * dist.get_world_size()
