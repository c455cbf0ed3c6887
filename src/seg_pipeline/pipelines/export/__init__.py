"""From a checkpoint to a bundle that runs without this project, compared with the trained model."""

from seg_pipeline.pipelines.export.pipeline import create_pipeline as create_pipeline
