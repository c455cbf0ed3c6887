"""Parameters of a data set that is made of several."""

from pydantic import Field

from seg_pipeline.params.base import Params


class CombineParams(Params):
    """The sources are named in the catalog, under `source_manifests`."""

    classes: dict[str, dict[str, str | None]] = Field(default={})
    """Per source, the classes that have another name in `dataset.classes`: that name, or null to leave the class out
    (its pixels become background). Classes that a source lacks are ignored in its images."""
    allow_leakage: bool = False
    """Report an image that two sources have in different splits instead of stopping."""
