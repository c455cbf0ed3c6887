"""The manifest for nnU-Net."""

from __future__ import annotations

from typing import Any

from seg_pipeline import segmentation as seg
from seg_pipeline.params import ExportNnunetParams
from seg_pipeline.pipelines import DataFrame


def plan_nnunet_raw(manifest: DataFrame, params: ExportNnunetParams) -> dict[str, Any]:
    """Names, labels and splits; the catalog writes the files."""
    return seg.formats.plan_raw(manifest, name=params.name, overlap=params.overlap)
