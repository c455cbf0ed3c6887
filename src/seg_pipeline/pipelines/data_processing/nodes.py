"""Raw metadata and files -> a checked manifest with splits, and a finding for all that is not in it."""

from __future__ import annotations

import logging

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DataProcessingParams, DatasetParams
from seg_pipeline.pipelines import DataFrame

log = logging.getLogger(__name__)


def clean_annotations(
    metadata: DataFrame, dataset: DatasetParams, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame, int]:
    """Rows of the metadata table that can be used, findings, and how many rows there were."""
    given = params.annotations
    rows, findings = seg.manifest.clean_annotations(
        metadata,
        mask_format=given.mask_format,
        columns=given.columns.model_dump(by_alias=True),
        class_values=dataset.values,
        multiple_masks=given.multiple_masks,
        ignore_values=given.ignore_values,
    )
    return rows, findings, len(metadata)


def pivot_annotations(annotations: DataFrame, dataset: DatasetParams, params: DataProcessingParams) -> DataFrame:
    """One row an image, with its masks by class."""
    indexed = params.annotations.mask_format == seg.manifest.INDEXED
    return seg.manifest.pivot_annotations(annotations, [seg.manifest.INDEXED] if indexed else dataset.names)


def merge_files(
    annotated: DataFrame, image_files: DataFrame, mask_files: DataFrame, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame]:
    """Annotated images with their files, and findings."""
    given = params.annotations
    return seg.manifest.merge_files(
        annotated, image_files, mask_files, mask_format=given.mask_format, images_without_row=given.images_without_row
    )


def exclude_images(
    images: DataFrame, listed: DataFrame | None, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame]:
    """Images that are not on a list of those to drop, and findings."""
    import pandas as pd

    named = pd.DataFrame([one.model_dump() for one in params.excluded_images], columns=seg.manifest.COLUMNS)
    return seg.manifest.exclude_images(images, named if listed is None else pd.concat([listed, named]))


def measure_images(
    images: DataFrame, known: DataFrame | None, dataset: DatasetParams, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Images that can be read with size, objects and areas, masks made canonical; findings; what to keep of it."""
    given = params.annotations
    reader = seg.manifest.MaskReader(
        class_values=dataset.values,
        mask_format=given.mask_format,
        rle_order=given.rle_order or "C",
        rle_first=given.rle_first,
        exclusive=dataset.task == "multiclass",
        ignore_unlabelled=dataset.unlabelled_pixels == "ignore",
        background_values=given.background_values,
        ignore_values=given.ignore_values,
        instances=given.multiple_masks == "instances",
    )
    return seg.manifest.measure_changed(images, reader, known, num_workers=params.num_workers)


def check_images(
    images: DataFrame, annotations: DataFrame, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame]:
    """What only the images beside an image tell: findings, and pixels that classes share."""
    findings = seg.manifest.check_images(images, annotations, rle_order=params.annotations.rle_order)
    return findings, seg.manifest.overlap_matrix(images)


def assign_splits(images: DataFrame, given: DataFrame | None, params: DataProcessingParams, seed: int) -> DataFrame:
    """Split and fold of each image."""
    split = params.split
    return seg.manifest.assign_splits(
        images,
        shares=split.shares.model_dump(),
        grouped=split.grouped,
        stratified=split.stratified,
        seed=seed,
        method=split.method,
        folds=split.folds,
        given=given,
    )


def check_splits(
    images: DataFrame, splits: DataFrame, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame, DataFrame]:
    """The manifest: images with their splits; the same without the test split; findings. Fails where splits leak."""
    split = params.split
    leaks = seg.manifest.check_leaks(images, splits, allowed=split.allow_leakage, groups_allowed=split.method == "time")
    manifest = images.merge(splits[["image_id", "split", "fold"]], on="image_id", validate="one_to_one")
    few = seg.manifest.fewer_folds(splits, split.folds)
    findings = seg.manifest.collect(leaks, few, seg.manifest.missing_classes(manifest))
    return manifest, manifest[manifest["split"] != "test"], findings


def collect_findings(params: DataProcessingParams, *findings: DataFrame) -> DataFrame:
    """All findings in one table. Fails on the first that drops something where ``strict`` is set."""
    table = seg.manifest.collect(*findings)
    for rule, number in seg.manifest.counts(table).items():
        log.warning("finding: %s x %d", rule, number)
    if params.strict:
        seg.manifest.refuse_dropped(table)
    return table


def write_findings_page(
    findings: DataFrame,
    manifest: DataFrame,
    num_rows_read: int,
    annotations: DataFrame,
    files: DataFrame,
) -> str:
    """A page that opens in any browser. Fails where a row or a file was lost."""
    accounts = seg.manifest.reconcile(num_rows_read, annotations, files, manifest, findings)
    return seg.report.findings_page(findings, manifest, accounts, files, splits=seg.manifest.split_table(manifest))
