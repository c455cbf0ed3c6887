"""Manifest to nnU-Net's raw layout."""

from seg_pipeline.pipelines.export_nnunet.pipeline import create_pipeline as create_pipeline
