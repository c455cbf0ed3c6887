"""Parameters for combining several data sets."""

from pydantic import Field

from seg_pipeline.params.base import Params


class CombineParams(Params):
    """The sources are named in the catalog, under `source_manifests`."""

    classes: dict[str, dict[str, str | None]] = Field(default={})
    """Per source, new names for classes that have another name in `dataset.classes`; null leaves a class out (its
    pixels become background). Classes that a source lacks are ignored in its images."""
    allow_leakage: bool = False
    """Report an image that is in different splits of two sources, instead of stopping."""
