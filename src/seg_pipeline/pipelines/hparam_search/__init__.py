"""Which learning rate to train with."""

from seg_pipeline.pipelines.hparam_search.pipeline import create_pipeline as create_pipeline
