"""Raw metadata and files -> a checked manifest with splits, and a finding for all that is not in it."""

from __future__ import annotations

import logging

import pandas as pd

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DataProcessingParams, DatasetParams

log = logging.getLogger(__name__)


def clean_annotations(
    metadata: pd.DataFrame, dataset: DatasetParams, params: DataProcessingParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the metadata table that can be used, and findings."""
    given = params.annotations
    return seg.metadata.clean_annotations(
        metadata,
        form=given.form,
        columns=given.columns.model_dump(by_alias=True),
        class_values=dataset.values,
        several_per_class=given.several_per_class,
        ignore_values=given.ignore_values,
    )


def pivot_annotations(annotations: pd.DataFrame, dataset: DatasetParams, params: DataProcessingParams) -> pd.DataFrame:
    """One row an image, with its masks by class."""
    indexed = params.annotations.form == seg.metadata.INDEXED
    return seg.metadata.pivot_annotations(annotations, [seg.metadata.INDEXED] if indexed else dataset.names)


def merge_files(
    annotated: pd.DataFrame, image_files: pd.DataFrame, mask_files: pd.DataFrame, params: DataProcessingParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Annotated images with their files, and findings."""
    given = params.annotations
    return seg.manifest.merge_files(
        annotated, image_files, mask_files, form=given.form, images_without_row=given.images_without_row
    )


def measure_images(
    images: pd.DataFrame, dataset: DatasetParams, params: DataProcessingParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images that can be read with size, objects and areas, masks made canonical; and findings."""
    given = params.annotations
    reader = seg.features.MaskReader(
        class_values=dataset.values,
        form=given.form,
        rle_order=given.rle_order or "C",
        rle_first=given.rle_first,
        exclusive=dataset.task == "multiclass",
        ignore_unlabelled=dataset.unlabelled == "ignore",
        background_values=given.background_values,
        ignore_values=given.ignore_values,
        instances=given.several_per_class == "instances",
    )
    return seg.features.measure_images(images, reader, num_workers=params.num_workers)


def assign_splits(images: pd.DataFrame, params: DataProcessingParams, seed: int) -> pd.DataFrame:
    """Split of each image."""
    split = params.split
    return seg.splits.assign_splits(
        images,
        shares=split.shares.model_dump(),
        grouped=split.grouped,
        stratified=split.stratified,
        seed=seed,
    )


def check_splits(
    images: pd.DataFrame, splits: pd.DataFrame, params: DataProcessingParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest: images with their splits, and findings. Fails where the splits leak."""
    leaks = seg.splits.check_leaks(images, splits, allowed=params.split.allow_leakage)
    manifest = images.merge(splits[["image_id", "split"]], on="image_id", validate="one_to_one")
    return manifest, seg.quality.collect(leaks, seg.splits.missing_classes(manifest))


def collect_findings(
    annotation_findings: pd.DataFrame,
    file_findings: pd.DataFrame,
    image_findings: pd.DataFrame,
    split_findings: pd.DataFrame,
    params: DataProcessingParams,
) -> pd.DataFrame:
    """All findings in one table. Fails on the first that drops something where ``strict`` is set."""
    findings = seg.quality.collect(annotation_findings, file_findings, image_findings, split_findings)
    for rule, number in seg.quality.counts(findings).items():
        log.warning("finding: %s x %d", rule, number)
    if params.strict:
        seg.quality.refuse_dropped(findings)
    return findings
