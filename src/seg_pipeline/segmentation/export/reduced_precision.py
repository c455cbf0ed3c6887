"""Formats of lower precision, which are kept if Dice on validation images drops by at most a set amount."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.data.datasets import by_source
from seg_pipeline.segmentation.export.bundle_files import drop_format
from seg_pipeline.segmentation.export.quiet import errors_only
from seg_pipeline.segmentation.export.validation import (
    bundle_predictor,
    input_images,
    mean_dice,
    predicted_masks,
    trained_predictor,
)
from seg_pipeline.segmentation.prediction.bundle import Bundle, describe_file, file_name
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor, prepare
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.training import ScoreSettings
from seg_pipeline.segmentation.storage.atomic import ScratchFolder

log = logging.getLogger(__name__)

INEXACT = ("int8", "bf16")


def add_int8(bundle: Bundle, rows: pd.DataFrame) -> Bundle:
    """The bundle with the format int8, made from its format onnx: 8-bit weights and values, calibrated on ``rows``.

    Raises:
        ValueError: the bundle has no format onnx.
    """
    # a user may predict with all networks
    full_bundle = replace(bundle, prediction=replace(bundle.prediction, ensemble="all"))
    networks = []
    for number, (network, path) in enumerate(zip(bundle.networks, full_bundle.paths("onnx"), strict=True)):
        target = bundle.folder / file_name("int8", number)
        inputs = (
            prepare(image, network.input.of_source(source))[None]
            for source, part in by_source(rows)
            for image in input_images(part, network.input)
        )
        _quantise(path, target, iter(progress_bar(inputs, total=len(rows), title="calibrating int8", unit="images")))
        networks.append(replace(network, files={**network.files, "int8": describe_file(target)}))
    return replace(bundle, networks=tuple(networks))


def _quantise(source: Path, target: Path, batches: Iterator[np.ndarray]) -> None:
    """Quantise in QDQ format: weights get one scale per channel, activations the ranges found in calibration.

    Activations are unsigned, which Intel and AMD processors multiply fastest. The first and the last convolution stay
    exact, because their inputs and outputs, pixels and logits, lose the most (docs/how-to/deploy.md has the Dice).
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    # onnxruntime advises, through the root logger, to prepare models, which is done here
    with ScratchFolder() as folder, errors_only("root"):
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantization.quantize_static(
            prepared,
            target,
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            nodes_to_exclude=[*convolutions[:1], *convolutions[-1:]],
        )


def drop_inaccurate_formats(
    bundle: Bundle, checkpoint: dict[str, Any], rows: pd.DataFrame, scores: ScoreSettings, *, max_drop: float
) -> Bundle:
    """The bundle without the inexact formats whose Dice on manifest ``rows`` is too low; its provenance has the Dice.

    ``max_drop`` is the largest difference from the Dice of the trained model, whose ``checkpoint`` the bundle is from.
    """
    inexact = [bundle_format for bundle_format in INEXACT if bundle_format in bundle.formats]
    if not inexact:
        return bundle

    def dice_of(predictor: ImagePredictor, name: str) -> float:
        masks = predicted_masks(predictor, rows)
        return mean_dice(
            progress_bar(masks, total=len(rows), title=f"measuring the Dice of {name}", unit="images"), rows, scores
        )

    best = dice_of(trained_predictor(bundle, checkpoint), "the trained model")
    measured: list[dict[str, Any]] = []
    for bundle_format in inexact:
        dice = dice_of(bundle_predictor(bundle, bundle_format), bundle_format)
        kept = bool(best - dice <= max_drop)  # False if a Dice is undefined
        log.info(
            "export: %s is %s: Dice %.4f of %d %s images, %.4f as trained, may fall by %g",
            *(bundle_format, "kept" if kept else "left out", dice, len(rows), rows["split"].iloc[0], best, max_drop),
        )
        measured.append({"format": bundle_format, "kept": kept, "dice": _rounded(dice), "dice_trained": _rounded(best)})
        bundle = bundle if kept else drop_format(bundle, bundle_format)
    quality = {"max_drop": max_drop, "num_images": len(rows), "split": rows["split"].iloc[0], "formats": measured}
    return replace(bundle, provenance={**bundle.provenance, "quality": quality})


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
