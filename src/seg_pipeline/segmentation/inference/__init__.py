"""New images, files of any kind and number -> masks and tables in a folder. Free of torch."""

from seg_pipeline.segmentation.inference.run import OutputSettings, Result, predict_folder
from seg_pipeline.segmentation.inference.sources import find_images

__all__ = ["OutputSettings", "Result", "find_images", "predict_folder"]
