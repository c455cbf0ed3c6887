"""The files of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_pipeline.segmentation.bundle import FILES, Bundle, File, Member, describe_file, file_name
from seg_pipeline.segmentation.devices import pick_device
from seg_pipeline.segmentation.export.forms import write_forms
from seg_pipeline.segmentation.postprocess import Postprocessing
from seg_pipeline.segmentation.predict import load_members, plain_masks
from seg_pipeline.segmentation.recipe import PredictSettings, Recipe
from seg_pipeline.segmentation.segmenter import Segmenter

PLAIN_FORMS = ("onnx", "torchscript", "pt2", "safetensors")
"""Those that compute what the checkpoint does."""


def make_bundle(
    checkpoint: dict[str, Any],
    folder: Path,
    *,
    forms: Sequence[str],
    colours: Sequence[str],
    postprocessing: Postprocessing | None = None,
    prediction: PredictSettings | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Writes a bundle into ``folder``, in place of what an earlier export left there.

    Args:
        checkpoint: of one model, or of one a fold.
        folder: is made where it does not exist.
        forms: keys of ``bundle.FILES``, without int8, which needs images.
        colours: "#rrggbb" a class.
        postprocessing: None: bare masks at the checkpoint's threshold.
        prediction: None: the image as it is, whole.
        provenance: recorded as it is.
    """
    members = load_members(checkpoint, pick_device("cpu"))
    recipe = members[0][1]
    clear(folder)
    bundle = Bundle(
        folder=folder,
        task=recipe.task,
        classes=recipe.classes,
        colours=tuple(colours),
        background=recipe.background,
        members=tuple(
            _member(model, of, _written(model, forms, folder, number)) for number, (model, of) in enumerate(members)
        ),
        postprocessing=postprocessing or plain_masks(recipe),
        prediction=prediction or PredictSettings(),
        provenance=provenance or {},
    )
    bundle.write()
    return bundle


def clear(folder: Path) -> None:
    """Empties a folder of a bundle's files; others stay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bundle.json").unlink(missing_ok=True)
    for name in FILES.values():
        stem, _, rest = name.partition(".")
        for path in (folder / name, *folder.glob(f"{stem}_*.{rest}")):
            path.unlink(missing_ok=True)


def _member(model: Segmenter, recipe: Recipe, files: Mapping[str, File]) -> Member:
    mean, std = (tuple(buffer.flatten().tolist()) for buffer in (model.mean, model.std))
    return Member(input=recipe.input, mean=mean, std=std, files=files)


def _written(model: Segmenter, forms: Sequence[str], folder: Path, number: int) -> dict[str, File]:
    paths = {form: folder / file_name(form, number) for form in forms}
    write_forms(model, paths)
    return {form: describe_file(path) for form, path in paths.items()}
