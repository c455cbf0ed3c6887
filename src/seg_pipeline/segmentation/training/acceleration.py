"""Make a step faster without changing it: torch.compile, and CUDA graphs.

A step of the default network launches about 800 operators, each of which costs the host 6 to 10 µs: more than a GPU
needs to compute them. ``Compiled`` fuses operators, ``Replay`` launches them all at once. Where that is impossible,
both log a warning and fall back to normal execution.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from seg_pipeline.segmentation.settings.training_config import TrainingConfig

log = logging.getLogger(__name__)

Result = TypeVar("Result")

COMPILE_FROM_PIXELS = 60e9
"""Pixels of a run (epochs x images x height x width) from which compiling takes less time than it saves on a GPU.

On an H100, compiling a U-Net with resnet34 took 115 s and saved 0.15 ms per image of 256 x 256 pixels
(``benchmarks/gpu.py``): as much after 50e9 pixels.
"""
COMPILE_FROM_MINUTES = 20.0
"""The same for runs with a time limit."""
WARM_UP = 3
"""Steps before a graph is recorded, in which libraries choose algorithms and reserve their memory."""


def worth_compiling(config: TrainingConfig, device: torch.device, num_images: int) -> bool:
    """Whether to compile a run of ``num_images`` train images per epoch; ``fit.compile: auto`` decides by its length.

    On a CPU "auto" never compiles, because results would differ between machines with and without a compiler.
    """
    fit, (height, width) = config.fit, config.input.size
    if fit.compile != "auto":
        return fit.compile
    long_enough = fit.max_minutes is None or fit.max_minutes >= COMPILE_FROM_MINUTES
    return device.type == "cuda" and long_enough and fit.epochs * num_images * height * width >= COMPILE_FROM_PIXELS


def is_recording(device: torch.device) -> bool:
    """Whether a CUDA graph is being recorded: nothing is computed then."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class Compiled:
    """Calls functions, compiled by torch.compile if ``enabled``, until one of them cannot be compiled."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._compiled: dict[Callable, Callable] = {}

    def __call__(self, function: Callable[..., Result], *args: Any) -> Result:
        if not self.enabled:
            return function(*args)
        if function not in self._compiled:
            self._compiled[function] = torch.compile(function)
        return self._compiled[function](*args)

    def give_up(self, error: TorchDynamoException) -> None:
        """Stop compiling; the caller then repeats the call that raised ``error``."""
        self.enabled = False
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and "TORCHDYNAMO" not in line]
        reason = " ".join(lines[:2])[:300] or type(error).__name__
        log.warning("the network cannot be compiled; training continues uncompiled (%s)", reason)


class Replay:
    """Calls a function of tensors on a GPU; replays it as a CUDA graph from the fourth call on.

    The function must return a tuple of tensors, depend only on its arguments and on tensors that stay in place, and
    never wait for the device. If shapes differ from the first call's, as in a smaller last batch, the function itself
    is called.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self.function, self.device = function, device
        self._calls = 0
        self._shapes: list[torch.Size] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        shapes = [tensor.shape for tensor in tensors]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            return self.function(*tensors)
        self._calls += 1
        if self._calls == WARM_UP + 1:
            self._record(tensors)
        if self._graph is None:
            return self.function(*tensors)
        for buffer, tensor in zip(self._inputs, tensors, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)  # the next replay overwrites them

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        """Record the function without running it."""
        graph = torch.cuda.CUDAGraph()
        self._inputs = [torch.empty_like(tensor, device=self.device) for tensor in tensors]
        try:
            with torch.cuda.graph(graph):
                self._outputs = self.function(*self._inputs)
            self._graph = graph
        except RuntimeError as error:  # an operator that waits for the device, or too little memory
            log.warning(
                "the step cannot be recorded as a CUDA graph; training continues without one (%s)",
                str(error).partition("\n")[0][:300],
            )
            self._inputs, self._outputs = [], ()
