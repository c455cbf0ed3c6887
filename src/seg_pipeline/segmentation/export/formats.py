"""Write a network in each format, and load each file as a runnable network.

Axes: B images, K channels, H rows, W columns. B, H and W are dynamic; H and W are multiples of 32.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic

from seg_pipeline.segmentation.export.plain_network import Deployable, HalfPrecision
from seg_pipeline.segmentation.export.quiet import errors_only
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.prediction.predictor import Network, load_onnx
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.training import STRIDE
from seg_pipeline.segmentation.settings.training_config import TrainingConfig


def write_formats(model: Segmenter, paths: Mapping[str, Path]) -> None:
    """Write formats of ``bundle.FILES`` except int8, which needs images.

    Raises:
        ValueError: raised by ``format_errors``.
    """
    network = Deployable(model)
    with format_errors("onnx and pt2"):
        program = export_program(network) if {"onnx", "pt2"} & set(paths) else None
    for bundle_format, path in progress_bar(paths.items(), total=len(paths), title="exporting", unit="formats"):
        with format_errors(bundle_format):
            if bundle_format == "safetensors":
                write_safetensors(model, path)
            elif bundle_format == "torchscript":
                write_torchscript(network, path)
            elif bundle_format == "bf16":
                torch.export.save(export_program(HalfPrecision(network)), path)
            elif bundle_format == "pt2":
                torch.export.save(program, path)  # type: ignore[arg-type]
            else:
                write_onnx(program, path)  # type: ignore[arg-type]


@contextlib.contextmanager
def format_errors(bundle_format: str) -> Iterator[None]:
    """Turn any error of an exporter or runtime into a ValueError with the format and the remedy."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        message = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"`export.formats`: {bundle_format} does not work for this network ({type(error).__name__}: {message}); "
            "leave it out"
        ) from error


def export_program(network: Deployable | HalfPrecision) -> ExportedProgram:
    sizes = {0: Dim("batch"), 2: Dim("rows") * STRIDE, 3: Dim("columns") * STRIDE}
    # otherwise torch rejects a side of 32, which the encoder reduces to 1, as a special case
    with torch.no_grad(), symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(network, (_example(network),), dynamic_shapes=(sizes,))


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Write one ONNX file that includes the weights.

    Raises:
        ValueError: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: `pip install 'seg_pipeline[export]'`") from None
    with errors_only("torch.onnx", "onnxscript", "onnx_ir"):
        onnx_program = torch.onnx.export(
            program, dynamo=True, input_names=["images"], output_names=["logits"], verbose=False
        )
        assert onnx_program is not None
        onnx_program.save(path, external_data=False)


def write_torchscript(network: Deployable, path: Path) -> None:
    """Write the traced network. TorchScript is deprecated in torch; use it only for programs that need it."""
    with _no_torchscript_warnings():
        torch.jit.trace(network, _example(network), check_trace=False).save(path)


def write_safetensors(model: nn.Module, path: Path) -> None:
    """Write only the weights, named as in a checkpoint."""
    from safetensors.torch import save

    path.write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}))


def load_network(path: Path, bundle_format: str, config: TrainingConfig) -> Network:
    """Load a file of any format as a network on the CPU; safetensors, which holds only weights, needs ``config``."""
    if bundle_format in ("onnx", "int8"):
        return load_onnx(path)
    if bundle_format == "torchscript":
        with _no_torchscript_warnings():
            return as_network(torch.jit.load(path))
    if bundle_format in ("pt2", "bf16"):
        return as_network(torch.export.load(path).module())
    from safetensors.torch import load_file

    model = Segmenter(config, pretrained=False)
    model.load_state_dict(load_file(path))
    return as_network(model.eval())


def as_network(module: Callable[[Tensor], Tensor]) -> Network:
    """Wrap a torch module for ``ImagePredictor``."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), _no_torchscript_warnings():
            return module(torch.from_numpy(images)).numpy()

    return run


def _example(network: Deployable | HalfPrecision) -> Tensor:
    """An example input with different sides, none of which is a special case."""
    mean = network.mean if isinstance(network, Deployable) else network.network.mean
    return torch.zeros(2, mean.shape[1], 2 * STRIDE, 3 * STRIDE, dtype=torch.uint8)


@contextlib.contextmanager
def _no_torchscript_warnings() -> Iterator[None]:
    """Silence TorchScript's deprecation warnings, and tracing's warnings about fixed sizes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
