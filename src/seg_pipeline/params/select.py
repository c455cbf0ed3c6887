"""Parameters for choosing the images to label next."""

from pydantic import Field

from seg_pipeline.params.base import Params


class SelectParams(Params):
    images: str | None = None
    """Unlabelled images: a folder, a glob, or a list, as for `inference.images`."""
    number: int = Field(default=50, ge=1)
    """Images to choose."""
    disagreement_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the model's disagreement; the rest is the distance to labelled or chosen images. 0: distance only."""
    max_labelled: int = Field(default=2000, ge=1)
    """Labelled images, evenly sampled, to which distances are measured."""
    pseudo_labels: bool = False
    """Also write the confident pixels of the unlabelled images as masks, for `training.pseudo_labels`."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Calibrated probability from which a pixel is confident."""
    num_workers: int = Field(default=2, ge=0, le=64)
    """Threads that read images ahead."""
    device: str = "auto"
    """auto: CUDA if available, else CPU."""
