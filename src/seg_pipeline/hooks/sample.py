"""Before a run: draw the sample if the run reads it and it is not there yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.run_info import file_of

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline


class SampleHooks:
    """Makes the phantom that ``phantom`` of ``globals.yml`` describes in ``raw_root``.

    A hook and not a dataset, so that the raw entries of the catalog are plain ones that you can copy for your own data.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        given = context.config_loader["globals"]
        self._project = Path(context.project_path)
        self._raw_root, self._phantom = given.get("raw_root"), given.get("phantom")

    @hook_impl(tryfirst=True)  # registered after InputHooks and so called before it, which would miss the files
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        raw_root = (run_params.get("runtime_params") or {}).get("raw_root", self._raw_root)
        if self._phantom is None or raw_root is None:
            return
        folder = self._project / raw_root
        files = [file_of(catalog.get(name)) for name in pipeline.inputs()]
        if any(file is not None and file.is_relative_to(folder) for file in files):
            make_sample(folder, self._phantom)


def make_sample(folder: Path, phantom: dict[str, Any]) -> None:
    """Draw the phantom, unless the folder holds it already.

    Raises:
        UserError: the folder holds something else, which is not overwritten, or a setting of ``phantom`` is wrong.
    """
    from seg_pipeline.segmentation.phantom import write_example, write_phantom

    try:
        (write_example if "layout" in phantom else write_phantom)(folder, **phantom)
    except ValueError as error:
        raise UserError(str(error)) from error
