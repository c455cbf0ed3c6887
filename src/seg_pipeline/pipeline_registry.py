"""The project's pipelines, found by folder: `kedro registry list` shows them."""

from __future__ import annotations

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

ON_REQUEST = ("export", "export_nnunet", "inference")
"""Run only when they are named."""


def register_pipelines() -> dict[str, Pipeline]:
    """Every package under ``pipelines/`` by name, and the sum of those not ``ON_REQUEST`` as ``__default__``.

    The nodes of each have its name before theirs, ``eda.plot_samples``: Kedro-Viz draws a pipeline as one box that
    opens, and those who deploy can make it one task.
    """
    found = find_pipelines(raise_errors=True)
    pipelines = {
        name: Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)
        for name, pipeline in found.items()
        if name != "__default__"
    }
    pipelines["__default__"] = Pipeline([one for name, one in pipelines.items() if name not in ON_REQUEST])
    return pipelines
