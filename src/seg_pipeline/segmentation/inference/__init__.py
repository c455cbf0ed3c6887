"""Predict new images of any kind and number into a folder of masks and tables, without importing torch."""

from seg_pipeline.segmentation.inference.annotations import annotate
from seg_pipeline.segmentation.inference.run import OutputSettings, Result, predict_folder
from seg_pipeline.segmentation.inference.sources import find_images

__all__ = ["OutputSettings", "Result", "annotate", "find_images", "predict_folder"]
