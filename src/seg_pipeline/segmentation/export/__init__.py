"""From a checkpoint to a bundle: the network in formats that other programs run, and proof that they agree."""

from seg_pipeline.segmentation.export.bundle_files import make_bundle
from seg_pipeline.segmentation.export.parity import compare_formats, refuse_differences
from seg_pipeline.segmentation.export.reduced_precision import add_int8, judge
from seg_pipeline.segmentation.export.run_bundle import bundle_predictor
from seg_pipeline.segmentation.export.validation import judged_rows, spread

__all__ = [
    "add_int8",
    "bundle_predictor",
    "compare_formats",
    "judge",
    "judged_rows",
    "make_bundle",
    "refuse_differences",
    "spread",
]
