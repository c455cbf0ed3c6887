"""Which unlabelled images to label next, and pseudo-labels of the others."""

from __future__ import annotations

import logging

from seg_pipeline import segmentation as seg
from seg_pipeline.params import SelectParams
from seg_pipeline.pipelines import DataFrame

log = logging.getLogger(__name__)


def rank_images(
    manifest: DataFrame, checkpoint: dict, postprocessing: dict | None, params: SelectParams
) -> tuple[DataFrame, str]:
    """Rank unlabelled images by how useful a label would be, and show them on a page. No mask is read."""
    images, labelled = _images(params), manifest[manifest["split"] != "test"]
    steps, device = seg.prediction.Postprocessing.chosen(postprocessing), seg.training.pick_device(params.device)
    options = {"device": device, "temperatures": steps.temperatures if steps else None, "workers": params.num_workers}
    ranked = seg.inference.rank_images(
        seg.inference.describe_images(images, checkpoint, **options),
        seg.inference.describe_images(seg.manifest.spread(labelled, params.max_labelled), checkpoint, **options),
        number=params.number,
        disagreement_weight=params.disagreement_weight,
        voters="the models of the folds" if len(checkpoint["models"]) > 1 else "the image and its mirrored view",
    )
    table = ranked.merge(images[["image_id", "path"]], on="image_id", validate="one_to_one")
    return table, seg.report.selection_page(table)


def write_pseudo_labels(
    manifest: DataFrame, checkpoint: dict, postprocessing: dict | None, params: SelectParams
) -> DataFrame:
    """Make train rows of the confident pixels of unlabelled images; empty without `select.pseudo_labels`."""
    if not params.pseudo_labels:
        return manifest[:0]
    labels = seg.inference.pseudo_labels(
        _images(params),
        checkpoint,
        manifest[manifest["split"] != "train"],
        device=seg.training.pick_device(params.device),
        postprocessing=seg.prediction.Postprocessing.chosen(postprocessing),
        confidence=params.confidence,
        workers=params.num_workers,
    )
    log.info("%d images have pseudo-labels", len(labels))
    return labels


def _images(params: SelectParams) -> DataFrame:
    assert params.images is not None, "hooks/run_checks.py has checked it"
    return seg.inference.listed_images(params.images)
