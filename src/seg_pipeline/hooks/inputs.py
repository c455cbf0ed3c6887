"""Checks before a run that the pipeline and all its inputs exist."""

from collections.abc import Iterator
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from seg_pipeline.datasets.optional import OptionalDataset
from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.run_info import command_for, file_of, pipelines_of
from seg_pipeline.pipeline_registry import ON_REQUEST

ACCEPTS_MISSING_INPUTS = "accepts_missing_inputs"
"""Tag of nodes that accept None for a missing input."""


class InputHooks:
    """Stops a run before its first node if a pipeline or an input does not exist."""

    @hook_impl
    def after_context_created(self) -> None:
        """List the existing pipelines if the requested one does not exist."""
        requested = getattr(pipelines, "_requested_pipelines", None) or []
        try:
            unknown = [name for name in requested if name not in pipelines]
        except ImportError as error:
            if error.__cause__ is not None:
                raise  # the pipeline exists, but importing it fails
            unknown = [name for name in requested if name not in _all_pipelines()]
        if unknown:
            names = ", ".join(sorted(name for name in _all_pipelines() if name != "__default__"))
            raise UserError(f"no pipeline named `{'`, `'.join(unknown)}`; available: {names}")

    @hook_impl(tryfirst=True)  # before other hooks start anything
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """List every missing input and the command that creates it."""
        if run_params.get("only_missing_outputs"):
            return  # Kedro decides only later which nodes to skip
        try:
            missing = [
                name
                for name in sorted(pipeline.inputs())
                if is_missing(name, catalog) and not _is_optional(name, pipeline, catalog)
            ]
        except DatasetError as error:
            raise UserError(f"conf/: {error}") from error
        if not missing:
            return
        requested = "`" + "`, `".join(pipelines_of(run_params)) + "`" if pipelines_of(run_params) else "default"
        raise UserError(
            f"the {requested} pipeline cannot start: {len(missing)} of its inputs "
            f"{'is' if len(missing) == 1 else 'are'} missing\n"
            + "\n".join(_missing_lines(missing, run_params, catalog))
        )


def is_missing(name: str, catalog: DataCatalog) -> bool:
    """Whether a dataset has nothing to load; False for datasets that may be missing, because they load as None."""
    dataset = catalog.get(name)
    if dataset is None:
        return True
    has_exists = type(dataset)._exists is not AbstractDataset._exists  # without it, Kedro warns and returns False
    try:
        return has_exists and not getattr(dataset, "missing_ok", False) and not dataset.exists()
    except DatasetError as error:
        described = dataset._describe()
        address, protocol = str(described.get("filepath", "")), described.get("protocol") or "file"
        if "://" not in address and protocol == "file":
            raise
        address = address if "://" in address else f"{protocol}://{address.lstrip('/')}"
        cause = error.__cause__
        raise UserError(
            f"`{name}` cannot be read: {address} answers {type(cause).__name__}: {cause}; check the address, the store "
            "and your credentials"
        ) from error


def _is_optional(name: str, pipeline: Pipeline, catalog: DataCatalog) -> bool:
    """Whether the dataset loads as None if it is missing, and every node that reads it accepts None."""
    readers = [node for node in pipeline.nodes if name in node.inputs]
    accepted = all(ACCEPTS_MISSING_INPUTS in node.tags for node in readers)
    return accepted and isinstance(catalog.get(name), OptionalDataset)


def _missing_lines(missing: list[str], run_params: dict[str, Any], catalog: DataCatalog) -> Iterator[str]:
    """The missing inputs, grouped by the way to create them."""
    by_remedy: dict[str, list[str]] = {}
    for name in missing:
        by_remedy.setdefault(_remedy(name, catalog.get(name), run_params), []).append(name)
    for remedy, names in by_remedy.items():
        yield from (f"  {name}: {_location(catalog.get(name))}" for name in names)
        yield f"    {remedy}"


def _location(dataset: object) -> str:
    if dataset is None:
        return "not in the catalog"
    return f"no file {file_of(dataset)}" if file_of(dataset) else "kept in memory only"


def _remedy(name: str, dataset: object, run_params: dict[str, Any]) -> str:
    if writers := _pipelines_writing(name):
        return "run " + " or ".join(f"`{command_for(writer, run_params)}`" for writer in writers) + " first"
    metadata = (getattr(dataset, "metadata", None) or {}).get("seg_pipeline", {})
    return metadata.get("if_missing", "create the file or correct its entry in conf/")


def _pipelines_writing(name: str) -> list[str]:
    writers = [key for key, pipeline in _all_pipelines().items() if name in pipeline.all_outputs()]
    default = [writer for writer in writers if writer not in ("__default__", *ON_REQUEST)]
    return default or [writer for writer in writers if writer != "__default__"]


def _all_pipelines() -> dict[str, Pipeline]:
    pipelines.set_requested(None)  # otherwise only the requested ones are loaded
    return dict(pipelines)
