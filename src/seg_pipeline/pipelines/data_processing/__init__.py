"""Raw metadata and files to manifest."""

from seg_pipeline.pipelines.data_processing.pipeline import create_pipeline as create_pipeline
