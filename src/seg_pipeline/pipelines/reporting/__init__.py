"""All that the other pipelines found -> figures, comparison, report and model card."""

from seg_pipeline.pipelines.reporting.pipeline import create_pipeline as create_pipeline
