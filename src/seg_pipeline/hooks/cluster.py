"""Connect a run to the cluster that `cluster.engine` selects."""

from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from seg_pipeline.hooks.errors import user_errors


class ClusterHooks:
    """Connects before the first node, even before the sample is drawn, and disconnects after the last."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._settings: dict[str, Any] = context.config_loader["parameters"].get("cluster", {})

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self) -> None:
        if not self._uses_cluster():
            return
        from seg_pipeline.segmentation.parallel import cluster
        from seg_pipeline.segmentation.settings.cluster import ClusterSettings

        with user_errors():
            cluster.connect(ClusterSettings(**self._settings))

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._disconnect()

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        if self._uses_cluster():
            from seg_pipeline.segmentation.parallel import cluster

            cluster.disconnect()

    def _uses_cluster(self) -> bool:
        return self._settings.get("engine", "local") != "local" or bool(self._settings.get("workers"))
