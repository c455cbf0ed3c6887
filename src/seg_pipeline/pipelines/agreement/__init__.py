"""Agreement between two readers: two sets of masks of the same images."""

from seg_pipeline.pipelines.agreement.pipeline import create_pipeline as create_pipeline
