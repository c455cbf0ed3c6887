"""Checkpoint or bundle -> annotations of new images that people correct in a label tool."""

from seg_pipeline.pipelines.annotate.pipeline import create_pipeline as create_pipeline
