"""Image segmentation from raw files to a scored model, as a Kedro project."""

__version__ = "0.1.0"
