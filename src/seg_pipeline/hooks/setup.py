"""Prepare a run before its first node: draw the sample, set the figure style, save the command for the report."""

import os
from pathlib import Path
from typing import Any

import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import LOGGING
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from seg_pipeline.hooks.errors import user_errors
from seg_pipeline.hooks.run_info import command_for, file_of
from seg_pipeline.params.data import DatasetParams
from seg_pipeline.segmentation.settings import figures


class SetupHooks:
    """Sets the global ``segmentation.settings.figures``, and saves ``run_command`` to the catalog."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        params = context.config_loader["parameters"]
        class_colours = DatasetParams.model_validate(params["dataset"]).colours if "dataset" in params else []
        figures.configure(**{"class_colours": class_colours} | params.get("figures", {}))
        _configure_logs(Path(context.project_path))
        run_params = {"env": context.env, "runtime_params": context.config_loader.runtime_params}
        self._command = command_for("__default__", run_params)

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        catalog.save("run_command", self._command)


def _configure_logs(project: Path) -> None:
    """Load conf/logging.yml in a notebook too, where the current folder, the only one Kedro looks in, is another."""
    file = project / "conf" / "logging.yml"
    if "KEDRO_LOGGING_CONFIG" not in os.environ and not Path("conf", "logging.yml").exists() and file.exists():
        LOGGING.configure(yaml.safe_load(file.read_text(encoding="utf-8")))


class SampleHooks:
    """Draw the phantom described by ``phantom`` in ``globals.yml`` into ``raw_root``.

    This is a hook, not a dataset, so that the catalog's raw entries stay plain and can be copied for other data.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        config = context.config_loader["globals"]
        self._project = Path(context.project_path)
        self._raw_root, self._phantom = config.get("raw_root"), config.get("phantom")

    # Registered after InputHooks and so called before it: the files must exist when it checks them.
    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        raw_root = (run_params.get("runtime_params") or {}).get("raw_root", self._raw_root)
        if self._phantom is None or raw_root is None:
            return
        folder = self._project / raw_root
        files = [file_of(catalog.get(name)) for name in pipeline.inputs()]
        if any(file is not None and file.is_relative_to(folder) for file in files):
            make_sample(folder, self._phantom)


def make_sample(folder: Path, phantom: dict[str, Any]) -> None:
    """Draw the phantom, unless the folder already holds it.

    Raises:
        UserError: the folder holds other files, which are not overwritten, or a setting of ``phantom`` is wrong.
    """
    from seg_pipeline.segmentation.phantom import write_example, write_phantom

    with user_errors():
        (write_example if "layout" in phantom else write_phantom)(folder, **phantom)
