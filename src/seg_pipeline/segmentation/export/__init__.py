"""From a checkpoint to a bundle: the network in forms that other programs run, and proof that they agree."""

from seg_pipeline.segmentation.export.images import judged_rows, spread
from seg_pipeline.segmentation.export.making import make_bundle
from seg_pipeline.segmentation.export.parity import compare_forms, refuse_differences
from seg_pipeline.segmentation.export.quality import add_int8, judge
from seg_pipeline.segmentation.export.running import bundle_predictor

__all__ = [
    "add_int8",
    "bundle_predictor",
    "compare_forms",
    "judge",
    "judged_rows",
    "make_bundle",
    "refuse_differences",
    "spread",
]
