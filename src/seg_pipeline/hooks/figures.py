"""Applies the figure style from the parameters, in runs and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedro.framework.hooks import hook_impl

from seg_pipeline.segmentation.settings import figures

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


class FigureHooks:
    """Sets the global ``segmentation.settings.figures``, so that no node has to pass the style on."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        figures.configure(**context.config_loader["parameters"].get("figures", {}))
