"""Choose the images to label next."""

from seg_pipeline.pipelines.select.pipeline import create_pipeline as create_pipeline
