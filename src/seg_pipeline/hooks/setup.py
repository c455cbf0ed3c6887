"""What a run needs before its first node: the figure style, and its own command for the report and the model card."""

from __future__ import annotations

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog

from seg_pipeline.hooks.run_info import command_for
from seg_pipeline.segmentation.settings import figures


class SetupHooks:
    """Sets the global ``segmentation.settings.figures``, and saves ``run_command`` to the catalog."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        figures.configure(**context.config_loader["parameters"].get("figures", {}))
        given = {"env": context.env, "runtime_params": context.config_loader.runtime_params}
        self._command = command_for("__default__", given)

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        catalog.save("run_command", self._command)
