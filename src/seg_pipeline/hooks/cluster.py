"""Connects a run to the cluster that `cluster.engine` names."""

from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from seg_pipeline.hooks.errors import told_to_user


class ClusterHooks:
    """Connects before the first node, even before the sample is drawn, and disconnects after the last."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._given: dict[str, Any] = context.config_loader["parameters"].get("cluster", {})

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self) -> None:
        if self._given.get("engine", "local") == "local" and not self._given.get("workers"):
            return
        from seg_pipeline.segmentation.parallel import cluster
        from seg_pipeline.segmentation.settings.cluster import ClusterSettings

        with told_to_user():
            cluster.connect(ClusterSettings(**self._given))

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._disconnect()

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        if self._given.get("engine", "local") != "local" or self._given.get("workers"):
            from seg_pipeline.segmentation.parallel import cluster

            cluster.disconnect()
