"""Each form of a network as a file, and each file as a network that can be run.

Axes: B images, K channels, H rows, W columns; B, H and W are left open, H and W as multiples of 32.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic

from seg_pipeline.segmentation.export.networks import Deployable, HalfPrecision
from seg_pipeline.segmentation.predictor import Network, load_onnx
from seg_pipeline.segmentation.recipe import STRIDE

INPUT, OUTPUT = "images", "logits"


def write_onnx(network: Deployable, path: Path) -> None:
    """One file, weights within.

    Raises:
        ValueError: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: `pip install 'seg_pipeline[export]'`") from None
    with _quiet("torch.onnx", "onnxscript"):
        program = torch.onnx.export(
            _exported(network),
            dynamo=True,
            external_data=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)


def write_pt2(network: nn.Module, path: Path) -> None:
    """As torch.export saves it: operations and weights, without Python code."""
    torch.export.save(_exported(network), path)


def write_torchscript(network: Deployable, path: Path) -> None:
    """Traced. Torch calls TorchScript deprecated; it is for programs that read nothing else."""
    with _deprecated():
        torch.jit.trace(network, _example(network), check_trace=False).save(path)


def write_safetensors(model: nn.Module, path: Path) -> None:
    """The weights alone, under the names of a checkpoint's."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)


def write_bf16(network: Deployable, path: Path) -> None:
    """``write_pt2`` of the network computing in bfloat16; its weights stay float32."""
    write_pt2(HalfPrecision(network), path)


def load_torchscript(path: Path) -> Network:
    with _deprecated():
        return as_network(torch.jit.load(path))


def load_pt2(path: Path) -> Network:
    return as_network(torch.export.load(path).module())


LOADERS: dict[str, Callable[[Path], Network]] = {
    "onnx": load_onnx,
    "int8": load_onnx,
    "torchscript": load_torchscript,
    "pt2": load_pt2,
    "bf16": load_pt2,
}


def as_network(module: Callable[[Tensor], Tensor]) -> Network:
    """A torch module as ``ImagePredictor`` calls it."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return run


def _exported(network: nn.Module) -> ExportedProgram:
    sizes = {0: Dim("batch"), 2: Dim("rows", min=1) * STRIDE, 3: Dim("columns", min=1) * STRIDE}
    # Else a side of 32, which the encoder makes 1, would be taken for another case and refused.
    with torch.no_grad(), symbolic.patch(backed_size_oblivious=True):
        return torch.export.export(network, (_example(network),), dynamic_shapes=(sizes,))


def _example(network: nn.Module) -> Tensor:
    """Sides that differ, and of which none is a special case."""
    (channels,) = {buffer.shape[1] for name, buffer in network.named_buffers() if name.split(".")[-1] == "mean"}
    return torch.zeros(2, channels, 2 * STRIDE, 3 * STRIDE, dtype=torch.uint8)


@contextlib.contextmanager
def _deprecated() -> Iterator[None]:
    """TorchScript's functions each warn that they are deprecated, and tracing that sizes were compared."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        yield


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """These loggers say only what went wrong."""
    loggers = [logging.getLogger(name) for name in names]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
