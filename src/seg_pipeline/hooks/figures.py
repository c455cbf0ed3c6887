"""The look of all figures, from the parameters: in runs and in notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedro.framework.hooks import hook_impl

from seg_pipeline.segmentation.settings import figures

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


class FigureHooks:
    """Sets ``segmentation.settings.figures``, which the plotting functions read, so that no node passes it on."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        figures.configure(**context.config_loader["parameters"].get("figures", {}))
