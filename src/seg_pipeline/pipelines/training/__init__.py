"""Manifest -> checkpoint and history."""

from seg_pipeline.pipelines.training.pipeline import create_pipeline as create_pipeline
