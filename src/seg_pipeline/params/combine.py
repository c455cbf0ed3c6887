"""Parameters of a data set that is made of several."""

from pydantic import Field

from seg_pipeline.params.base import Params


class CombineParams(Params):
    """The sources are named in the catalog, under `source_manifests`."""

    classes: dict[str, dict[str, str | None]] = Field(default={})
    """Per source, its classes that `dataset.classes` calls otherwise: their name there, or null to leave a class out
    (its pixels are then background). A class that a source does not have is ignored in its images."""
    allow_leakage: bool = False
    """Report an image that two sources have in different splits instead of stopping."""
