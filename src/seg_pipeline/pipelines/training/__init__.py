"""Pipeline that trains a model on the manifest and saves its checkpoint and history."""

from seg_pipeline.pipelines.training.pipeline import create_pipeline as create_pipeline
