"""Checkpoint -> predictions and scores on the test split."""

from seg_pipeline.pipelines.evaluation.pipeline import create_pipeline as create_pipeline
