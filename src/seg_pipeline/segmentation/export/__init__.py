"""Export a checkpoint as a bundle: the network in formats for other programs, compared with the trained model."""

from seg_pipeline.segmentation.export.bundle_files import make_bundle
from seg_pipeline.segmentation.export.parity import compare_formats, refuse_differences
from seg_pipeline.segmentation.export.reduced_precision import add_int8, drop_inaccurate_formats
from seg_pipeline.segmentation.export.validation import bundle_predictor, validation_rows

__all__ = [
    "add_int8",
    "bundle_predictor",
    "compare_formats",
    "drop_inaccurate_formats",
    "make_bundle",
    "refuse_differences",
    "validation_rows",
]
