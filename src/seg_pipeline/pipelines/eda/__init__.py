"""Tables and figures of the data, before anything is trained on it."""

from seg_pipeline.pipelines.eda.pipeline import create_pipeline as create_pipeline
