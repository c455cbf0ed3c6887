"""Combine the manifests of several data sets into one, which replaces that of data_processing."""

from seg_pipeline import segmentation as seg
from seg_pipeline.params import CombineParams, DatasetParams, TrainingParams
from seg_pipeline.pipelines import DataFrame
from seg_pipeline.segmentation.settings.training import ScoreSettings


def combine_manifests(
    manifests: dict[str, DataFrame],
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: CombineParams,
) -> tuple[DataFrame, DataFrame, DataFrame]:
    """The combined manifest, the same without the test split, and findings. Fails if an image leaks between splits."""
    manifest, unlabelled_findings = seg.manifest.combine_manifests(
        manifests, dataset.names, params.classes, objects=dataset.objects
    )
    training.input.check_sources(list(manifest["source"].unique()))
    seg.metrics.refuse_partial(manifest, scores.empty_policy)
    leaks = seg.manifest.check_leaks(
        manifest.drop(columns=["split", "fold"]), manifest, allowed=params.allow_leakage, groups_allowed=True
    )
    shares = dict.fromkeys(("train", "val", "test"), 1.0)  # a split that no source has is a finding
    findings = seg.manifest.collect(unlabelled_findings, leaks, seg.manifest.missing_classes(manifest, shares))
    return manifest, manifest[manifest["split"] != "test"], findings
