"""Checkpoint or bundle -> masks of new images."""

from seg_pipeline.pipelines.inference.pipeline import create_pipeline as create_pipeline
