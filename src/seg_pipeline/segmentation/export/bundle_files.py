"""The files of a bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from seg_pipeline.segmentation.export.formats import write_forms
from seg_pipeline.segmentation.prediction.bundle import DESCRIPTION, FILES, Bundle, File, describe_file, file_name
from seg_pipeline.segmentation.prediction.checkpoint_predictor import describe
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.prediction.predict_images import load_members
from seg_pipeline.segmentation.settings.training import PredictSettings


def make_bundle(
    checkpoint: dict[str, Any],
    folder: Path,
    *,
    forms: Sequence[str],
    postprocessing: Postprocessing | None = None,
    prediction: PredictSettings | None = None,
    colours: Sequence[str] | None = None,
) -> Bundle:
    """Writes a bundle into ``folder``, in place of what an earlier export left there.

    Args:
        checkpoint: of one model, or of one a fold.
        folder: is made where it does not exist.
        forms: keys of ``bundle.FILES``, without int8, which ``quality.add_int8`` makes.
        postprocessing, prediction, colours: as of ``checkpoint_predictor.describe``.
    """
    described = describe(checkpoint, postprocessing=postprocessing, prediction=prediction, colours=colours)
    clear(folder)
    models = [model for model, _ in load_members(checkpoint, torch.device("cpu"))]
    members = []
    for number, (member, model) in enumerate(zip(described.members, models, strict=True)):
        paths = {form: folder / file_name(form, number) for form in forms}
        write_forms(model, paths)
        files: dict[str, File] = {form: describe_file(path) for form, path in paths.items()}
        members.append(replace(member, files=files))
    bundle = replace(described, folder=folder, members=tuple(members))
    bundle.write()
    return bundle


def without(bundle: Bundle, form: str) -> Bundle:
    """The bundle once a form is taken out, its files deleted."""
    for member in bundle.members:
        (bundle.folder / member.files[form].name).unlink()
    members = [
        replace(member, files={name: file for name, file in member.files.items() if name != form})
        for member in bundle.members
    ]
    return replace(bundle, members=tuple(members))


def clear(folder: Path) -> None:
    """Empties a folder of a bundle's files; others stay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)  # first: what is left is no bundle
    for name in FILES.values():
        stem, _, rest = name.partition(".")
        for path in (folder / name, *folder.glob(f"{stem}_*.{rest}")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
