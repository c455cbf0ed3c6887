"""Gives a run its own command, for the report and the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog

from seg_pipeline.hooks.run_info import command_for

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


class CommandHooks:
    """Saves ``run_command`` to the catalog: `kedro run` with the given environment and parameters."""

    def __init__(self) -> None:
        self._command = "kedro run"

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        given = {"env": context.env, "runtime_params": context.config_loader.runtime_params}
        self._command = command_for("__default__", given)

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        catalog.save("run_command", self._command)
