"""The files of a bundle."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from seg_pipeline.segmentation.export.formats import write_formats
from seg_pipeline.segmentation.prediction.bundle import DESCRIPTION, FILES, Bundle, File, describe_file, file_name
from seg_pipeline.segmentation.prediction.checkpoint_predictor import describe
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.prediction.predict_images import load_models
from seg_pipeline.segmentation.settings.training import PredictSettings


def make_bundle(
    checkpoint: dict[str, Any],
    folder: Path,
    *,
    formats: Sequence[str],
    postprocessing: Postprocessing | None = None,
    prediction: PredictSettings | None = None,
) -> Bundle:
    """Write a bundle into ``folder``, which is created if necessary, replacing the files of an earlier export.

    ``formats`` are keys of ``bundle.FILES`` except int8, which ``add_int8`` makes. For the last two arguments, see
    ``checkpoint_predictor.describe``.
    """
    models = load_models(checkpoint, torch.device("cpu"))
    described = describe(checkpoint, models, postprocessing=postprocessing, prediction=prediction)
    delete_bundle_files(folder)
    networks = []
    for number, (network, (model, _)) in enumerate(zip(described.networks, models, strict=True)):
        paths = {bundle_format: folder / file_name(bundle_format, number) for bundle_format in formats}
        write_formats(model, paths)
        files: dict[str, File] = {bundle_format: describe_file(path) for bundle_format, path in paths.items()}
        networks.append(replace(network, files=files))
    bundle = replace(described, folder=folder, networks=tuple(networks))
    bundle.write()
    return bundle


def drop_format(bundle: Bundle, bundle_format: str) -> Bundle:
    """Delete the files of a format; return the bundle without it."""
    for network in bundle.networks:
        (bundle.folder / network.files[bundle_format].name).unlink()
    networks = [
        replace(network, files={name: file for name, file in network.files.items() if name != bundle_format})
        for network in bundle.networks
    ]
    return replace(bundle, networks=tuple(networks))


def delete_bundle_files(folder: Path) -> None:
    """Delete a bundle's files from a folder; other files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)  # first, so that the remaining files are not read as a bundle
    for name in FILES.values():
        stem, _, rest = name.partition(".")
        for path in (folder / name, *folder.glob(f"{stem}_*.{rest}")):
            path.unlink(missing_ok=True)
