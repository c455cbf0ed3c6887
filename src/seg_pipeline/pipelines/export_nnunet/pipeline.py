"""Order of the export_nnunet nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.export_nnunet import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [node(nodes.write_nnunet, ["manifest", "nnunet_folder", "params:export_nnunet"], "nnunet_dataset")],
        tags="export",
    )
