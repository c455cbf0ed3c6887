"""Before a run: check that the pipeline exists and that all its inputs do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from seg_pipeline.datasets.optional import OptionalDataset
from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.run_info import command_for, file_of, pipelines_of

ACCEPTS_MISSING_INPUTS = "accepts_missing_inputs"
"""Tag of nodes that accept None for an input that is missing."""


class InputHooks:
    @hook_impl
    def after_context_created(self) -> None:
        """Names the pipelines that there are, where the user asks for another."""
        requested = getattr(pipelines, "_requested_pipelines", None) or []
        try:
            unknown = [name for name in requested if name not in pipelines]
        except ImportError as error:
            if error.__cause__ is not None:
                raise  # the pipeline is there, and its code broken
            unknown = [name for name in requested if name not in _all_pipelines()]
        if unknown:
            names = ", ".join(sorted(name for name in _all_pipelines() if name != "__default__"))
            raise UserError(f"there is no pipeline `{'`, `'.join(unknown)}`; there are {names}")

    @hook_impl(tryfirst=True)  # before any other hook starts something that would have to be ended again
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Names every input that is missing, and what to do; nothing has run yet."""
        if run_params.get("only_missing_outputs"):
            return  # Kedro leaves nodes out only later
        try:
            missing = [
                name
                for name in sorted(pipeline.inputs())
                if is_missing(name, catalog) and not _can_do_without(name, pipeline, catalog)
            ]
        except DatasetError as error:
            raise UserError(f"conf/: {error}") from error
        if not missing:
            return
        what = "`" + "`, `".join(pipelines_of(run_params)) + "`" if pipelines_of(run_params) else "default"
        raise UserError(
            f"the {what} pipeline cannot start: {len(missing)} of its inputs "
            f"{'is' if len(missing) == 1 else 'are'} missing\n" + "\n".join(_lines(missing, run_params, catalog))
        )


def is_missing(name: str, catalog: DataCatalog) -> bool:
    """Whether a dataset cannot be loaded; those that may be absent load as None."""
    dataset = catalog.get(name)
    if dataset is None:
        return True
    tells = type(dataset)._exists is not AbstractDataset._exists  # else Kedro takes it for missing, with a warning
    return tells and not getattr(dataset, "missing_ok", False) and not dataset.exists()


def _can_do_without(name: str, pipeline: Pipeline, catalog: DataCatalog) -> bool:
    """Whether the dataset loads as None and all nodes that read it accept that."""
    readers = [node for node in pipeline.nodes if name in node.inputs]
    tolerated = all(ACCEPTS_MISSING_INPUTS in node.tags for node in readers)
    return tolerated and isinstance(catalog.get(name), OptionalDataset)


def _lines(missing: list[str], run_params: dict[str, Any], catalog: DataCatalog) -> Iterator[str]:
    """Each remedy once, below all that it helps against."""
    helped: dict[str, list[str]] = {}
    for name in missing:
        helped.setdefault(_remedy(name, catalog.get(name), run_params), []).append(name)
    for remedy, names in helped.items():
        yield from (f"  {name}: {_place(catalog.get(name))}" for name in names)
        yield f"    {remedy}"


def _place(dataset: object) -> str:
    if dataset is None:
        return "not in conf/"
    return f"nothing at {file_of(dataset)}" if file_of(dataset) else "kept in memory only"


def _remedy(name: str, dataset: object, run_params: dict[str, Any]) -> str:
    if makers := _pipelines_that_make(name):
        return "run " + " or ".join(f"`{command_for(maker, run_params)}`" for maker in makers) + " first"
    ours = (getattr(dataset, "metadata", None) or {}).get("seg_pipeline", {})
    return ours.get("if_missing", "put it there, or correct its entry in conf/")


def _pipelines_that_make(name: str) -> list[str]:
    makers = [key for key, pipeline in _all_pipelines().items() if name in pipeline.all_outputs()]
    return [maker for maker in makers if maker != "__default__"] or makers


def _all_pipelines() -> dict[str, Pipeline]:
    pipelines.set_requested(None)  # a run of some pipelines has loaded only these
    return dict(pipelines)
