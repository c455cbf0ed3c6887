"""Turn raw metadata and files into a checked manifest with splits, and findings about everything left out."""

import logging
from collections.abc import Iterator
from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DataProcessingParams, DatasetParams
from seg_pipeline.pipelines import DataFrame

log = logging.getLogger(__name__)


def clean_annotations(
    metadata: DataFrame, dataset: DatasetParams, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame, int, DataFrame]:
    """Usable rows of the metadata table, findings, the number of rows read, and how well several annotators agree."""
    given = params.annotations
    rows, findings = seg.manifest.clean_annotations(
        metadata,
        mask_format=given.mask_format,
        columns=given.columns.model_dump(by_alias=True),
        class_values=dataset.values,
        multiple_masks=given.multiple_masks,
        ignore_values=given.ignore_values,
        patterns=given.patterns,
        no_mask_values=given.no_mask_values,
        rle_starts=given.rle_starts,
    )
    agreement = seg.metrics.annotator_agreement(metadata, dataset.values)
    if len(agreement):
        told = agreement["image_id"].nunique(), agreement["dice"].mean()
        log.info("several people annotated %d images; mean Dice between two of them: %.3f", *told)
    return rows, findings, len(metadata), agreement


def pivot_annotations(annotations: DataFrame, dataset: DatasetParams, params: DataProcessingParams) -> DataFrame:
    """One row per image, with its masks per class."""
    indexed = params.annotations.mask_format == seg.manifest.INDEXED
    return seg.manifest.pivot_annotations(annotations, [seg.manifest.INDEXED] if indexed else dataset.names)


def merge_files(
    annotated: DataFrame,
    image_files: DataFrame,
    mask_files: DataFrame,
    refused: DataFrame,
    params: DataProcessingParams,
) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Join annotated images with their files; also returns findings, and the image files as they are now."""
    given = params.annotations
    located, findings = seg.manifest.merge_files(
        annotated,
        image_files,
        mask_files,
        mask_format=given.mask_format,
        images_without_row=given.images_without_row,
        refused=refused,
    )
    return located, findings, image_files[["image_id", "path", "file"]]


def exclude_images(
    images: DataFrame, listed: DataFrame | None, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame]:
    """Drop or flag the listed images; also returns findings."""
    import pandas as pd

    named = pd.DataFrame([one.model_dump() for one in params.excluded_images], columns=seg.manifest.COLUMNS)
    return seg.manifest.exclude_images(images, named if listed is None else pd.concat([listed, named]))


def measure_images(
    images: DataFrame, known: DataFrame | None, parts: Path, dataset: DatasetParams, params: DataProcessingParams
) -> Iterator[DataFrame]:
    """Measurements of all images, for this and later runs; the parts are for one that resumes this one if it is killed.

    A generator, because the parts may only go when the catalog has saved the whole.
    """
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
        objects=dataset.objects,
        nearest_value=given.nearest_value,
        resample=given.resample_masks,
    )
    images = seg.manifest.with_reading(images, dataset.reading, mask_files=given.mask_format != "rle")
    yield seg.manifest.measure_rows(images, reader, known, num_workers=params.num_workers, folder=parts)
    seg.manifest.remove_parts(parts)


def join_measurements(
    images: DataFrame, measurements: DataFrame, dataset: DatasetParams, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame]:
    """Measured images with canonical masks, and findings about those that cannot be used."""
    is_rle = params.annotations.mask_format == "rle"
    images = seg.manifest.with_reading(images, dataset.reading, mask_files=not is_rle)
    return seg.manifest.join_measurements(images, measurements)


def find_late_files(listed_files: DataFrame, image_files: DataFrame, _: DataFrame) -> DataFrame:
    """Findings about image files that came after the run listed them; it waits until the images are measured."""
    return seg.manifest.late_files(listed_files, image_files)


def check_images(
    images: DataFrame, annotations: DataFrame, params: DataProcessingParams
) -> tuple[DataFrame, DataFrame]:
    """Compare images with each other: findings, and pixels shared by classes."""
    given = params.annotations
    order = given.rle_order if given.mask_format == "rle" else None
    findings = seg.manifest.check_images(images, annotations, rle_order=order)
    return findings, seg.manifest.overlap_matrix(images)


def assign_splits(images: DataFrame, given: DataFrame | None, params: DataProcessingParams, seed: int) -> DataFrame:
    """Assign split and fold to each image."""
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
    """The manifest, the manifest without the test split, and findings. Fails if the splits leak."""
    split = params.split
    leaks = seg.manifest.check_leaks(images, splits, allowed=split.allow_leakage, groups_allowed=split.method == "time")
    told = images.drop(columns=["split", "fold"], errors="ignore")  # as the file names have them
    manifest = seg.manifest.with_splits(told, splits)
    given = "fold" in images or split.method == "leave_one_group_out"
    few = seg.manifest.fewer_folds(splits, 1 if given else split.folds)
    missing = seg.manifest.missing_classes(manifest, split.shares.model_dump())
    findings = seg.manifest.collect(leaks, few, missing)
    return manifest, manifest[manifest["split"] != "test"], findings


def collect_findings(params: DataProcessingParams, *findings: DataFrame) -> DataFrame:
    """Collect all findings in one table. With ``strict``, fail if one drops an input."""
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
    """Render the findings as an HTML page. Fails if a row or a file is neither in the manifest nor in a finding."""
    totals = seg.manifest.reconcile(num_rows_read, annotations, files, manifest, findings)
    return seg.report.findings_page(findings, manifest, totals, files, splits=seg.manifest.split_table(manifest))
