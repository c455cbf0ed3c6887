"""Write the manifest in the raw layout of nnU-Net."""

from pathlib import Path
from typing import Any

from seg_pipeline import segmentation as seg
from seg_pipeline.params import ExportNnunetParams
from seg_pipeline.pipelines import DataFrame


def write_nnunet(manifest: DataFrame, nnunet_folder: Path, params: ExportNnunetParams) -> dict[str, Any]:
    """Write images, label maps and splits; return the contents of ``dataset.json``."""
    return seg.formats.write_nnunet(manifest, nnunet_folder, name=params.name, overlap=params.overlap)
