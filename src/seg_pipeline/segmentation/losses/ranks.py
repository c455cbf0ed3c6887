"""Sums over the processes that train together, with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def num_ranks() -> int:
    """Processes that train together; 1 without gradients: each then validates batches of its own."""
    together = torch.is_grad_enabled() and dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if together else 1


def global_sum(local: Tensor) -> Tensor:
    """Sum over the ranks, on each of them; alone: ``local`` itself."""
    return _GlobalSum.apply(local) if num_ranks() > 1 else local


class _GlobalSum(Function):
    """DDP takes the mean of the ranks' gradients, so each is scaled up by their number.

    torch.distributed.nn's all_reduce does the same with a second exchange, and is deprecated since torch 2.14.
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
