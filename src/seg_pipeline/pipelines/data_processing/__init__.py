"""Raw metadata and files -> manifest."""

from seg_pipeline.pipelines.data_processing.pipeline import create_pipeline as create_pipeline
