"""Predicting one image of 256 x 256 on a CPU with each exported format (a) and with the trained network in float32
(b). The default network has random weights. ONNX is the fastest format; TorchScript and torch.export gain nothing.
"""

import math
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from side_by_side import Result, Skipped, compare, report

from seg_pipeline.segmentation.export.formats import load_network, write_formats
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.prediction.bundle import FILES
from seg_pipeline.segmentation.settings.training import InputSettings, ModelSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

SIDE, CLASSES = 256, ("a", "b", "c")
DECODER = (128, 64, 48, 32)
"""As `training.model.decoder_channels` ships."""


def main(runs: int) -> int:
    torch.set_num_threads(1)
    config = TrainingConfig(
        task="multilabel",
        classes=CLASSES,
        model=ModelSettings(encoder_weights=None, decoder_channels=DECODER),
        input=InputSettings(size=(SIDE, SIDE)),
    )
    model = Segmenter(config, pretrained=False).eval()
    images = np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        return report(*measured(model, config, images, Path(folder), runs))


def measured(
    model: Segmenter, config: TrainingConfig, images: np.ndarray, folder: Path, runs: int
) -> Iterator[Result | Skipped]:
    tensor = torch.from_numpy(images)

    def eager() -> None:
        with torch.inference_mode():
            model(tensor)

    def bfloat16() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            model(tensor)

    yield against(eager, "bf16_autocast", bfloat16, runs)
    paths = {bundle_format: folder / FILES[bundle_format] for bundle_format in ("onnx", "torchscript", "pt2")}
    write_formats(model, paths)
    for bundle_format, path in paths.items():
        network = (
            load_onnx_of_one_thread(path) if bundle_format == "onnx" else load_network(path, bundle_format, config)
        )
        yield against(eager, bundle_format, lambda run=network: run(images), runs)
    if shutil.which("g++") is None:
        yield Skipped("inference_compiled", "torch.compile needs a C++ compiler (g++)")
        return
    compiled = torch.compile(model)

    def fused() -> None:
        with torch.inference_mode():
            compiled(tensor)

    yield against(eager, "compiled", fused, runs)


def load_onnx_of_one_thread(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    from seg_pipeline.segmentation.prediction.predictor import load_onnx

    return load_onnx(path, threads=1)


def against(eager: Callable[[], None], name: str, run: Callable[[], object], runs: int) -> Result:
    """With images per second of both as a note; the note says which figure is which."""
    found = compare(f"inference_{name}", run, eager, limit=math.inf, runs=runs)
    note = f"{1 / found.median_a:.1f} images per second; float32 {1 / found.median_b:.1f}"
    return Result(**{**found.__dict__, "note": note})


if __name__ == "__main__":
    warnings.simplefilter("ignore", FutureWarning)  # TorchScript's
    sys.exit(main(runs=int(sys.argv[1]) if sys.argv[1:] else 30))
