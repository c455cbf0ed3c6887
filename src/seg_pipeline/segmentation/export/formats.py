"""Write a network in each format, and load each file as a network that can be run.

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
        ValueError: as ``naming_format``.
    """
    network = Deployable(model)
    with naming_format("onnx and pt2"):
        program = export_program(network) if {"onnx", "pt2"} & set(paths) else None
    for bundle_format, path in progress_bar(paths.items(), total=len(paths), title="exporting", unit="formats"):
        with naming_format(bundle_format):
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
def naming_format(bundle_format: str) -> Iterator[None]:
    """Raises ValueError, which names the format and what to do, where an exporter or runtime fails in its own way."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"`export.formats`: {bundle_format} does not work for this network ({type(error).__name__}: {said}); "
            "leave it out"
        ) from error


def export_program(network: Deployable | HalfPrecision) -> ExportedProgram:
    sizes = {0: Dim("batch"), 2: Dim("rows") * STRIDE, 3: Dim("columns") * STRIDE}
    # without it, torch refuses a side of 32, which the encoder reduces to 1, as a special case
    with torch.no_grad(), symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(network, (_example(network),), dynamic_shapes=(sizes,))


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """One file that includes the weights.

    Raises:
        ValueError: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: `pip install 'seg_pipeline[export]'`") from None
    with errors_only("torch.onnx", "onnxscript", "onnx_ir"):
        made = torch.onnx.export(program, dynamo=True, input_names=["images"], output_names=["logits"], verbose=False)
        assert made is not None
        made.save(path, external_data=False)


def write_torchscript(network: Deployable, path: Path) -> None:
    """Traced. TorchScript is deprecated in torch; it is for programs that read nothing else."""
    with _deprecated():
        torch.jit.trace(network, _example(network), check_trace=False).save(path)


def write_safetensors(model: nn.Module, path: Path) -> None:
    """The weights alone, named as in a checkpoint."""
    from safetensors.torch import save

    path.write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}))


def load_network(path: Path, bundle_format: str, config: TrainingConfig) -> Network:
    """A file of any format as a network on the CPU; ``config`` is for safetensors, which holds only weights."""
    if bundle_format in ("onnx", "int8"):
        return load_onnx(path)
    if bundle_format == "torchscript":
        with _deprecated():
            return as_network(torch.jit.load(path))
    if bundle_format in ("pt2", "bf16"):
        return as_network(torch.export.load(path).module())
    from safetensors.torch import load_file

    model = Segmenter(config, pretrained=False)
    model.load_state_dict(load_file(path))
    return as_network(model.eval())


def as_network(module: Callable[[Tensor], Tensor]) -> Network:
    """A torch module as ``ImagePredictor`` calls it."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), _deprecated():
            return module(torch.from_numpy(images)).numpy()

    return run


def _example(network: Deployable | HalfPrecision) -> Tensor:
    """An input whose sides differ, none of them a special case."""
    mean = network.mean if isinstance(network, Deployable) else network.network.mean
    return torch.zeros(2, mean.shape[1], 2 * STRIDE, 3 * STRIDE, dtype=torch.uint8)


@contextlib.contextmanager
def _deprecated() -> Iterator[None]:
    """Silence TorchScript's deprecation warnings, and those of tracing about fixed sizes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
