"""From a checkpoint to a bundle: the network in forms that other programs run, and proof that they agree."""

from seg_pipeline.segmentation.export.making import make_bundle

__all__ = ["make_bundle"]
