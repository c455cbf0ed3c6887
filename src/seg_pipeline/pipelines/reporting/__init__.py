"""Draw the figures of the results, compare two runs, and write the report and the model card."""

from seg_pipeline.pipelines.reporting.pipeline import create_pipeline as create_pipeline
