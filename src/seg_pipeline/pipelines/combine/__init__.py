"""The manifests of several data sets become one."""

from seg_pipeline.pipelines.combine.pipeline import create_pipeline as create_pipeline
