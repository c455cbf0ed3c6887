"""A bundle run from its files of any form, torch's included."""

from __future__ import annotations

from seg_pipeline.segmentation.bundle import Bundle
from seg_pipeline.segmentation.export.forms import load_network
from seg_pipeline.segmentation.predictor import ImagePredictor
from seg_pipeline.segmentation.recipe import Recipe


def bundle_predictor(bundle: Bundle, form: str) -> ImagePredictor:
    """As ``predictor.Predictor``, for every form of ``bundle.FILES``."""
    recipes = [Recipe.from_dict(member["recipe"]) for member in bundle.provenance["members"]]
    files = zip(bundle.paths(form), recipes, strict=False)
    return ImagePredictor(bundle, [load_network(path, form, recipe) for path, recipe in files], form=form)
