"""What is chosen and measured once the model is trained, on validation images alone."""

from seg_pipeline.segmentation.choices.options import measure_options as measure_options
from seg_pipeline.segmentation.choices.postprocessing import choose_postprocessing as choose_postprocessing
