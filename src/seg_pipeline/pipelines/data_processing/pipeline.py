"""Order of the data_processing nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.data_processing import nodes

PARAMS = "params:data_processing"


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.clean_annotations,
                ["raw_metadata", "params:dataset", PARAMS],
                ["annotations", "annotation_findings"],
                name="clean_annotations",
            ),
            Node(
                nodes.pivot_annotations,
                ["annotations", "params:dataset", PARAMS],
                "annotated_images",
                name="pivot_annotations",
            ),
            Node(
                nodes.merge_files,
                ["annotated_images", "image_files", "mask_files", PARAMS],
                ["located_images", "file_findings"],
                name="merge_files",
            ),
            Node(
                nodes.measure_images,
                ["located_images", "params:dataset", PARAMS],
                ["measured_images", "image_findings"],
                name="measure_images",
            ),
            Node(
                nodes.assign_splits,
                ["measured_images", PARAMS, "params:seed"],
                "splits",
                name="assign_splits",
            ),
            Node(
                nodes.check_splits,
                ["measured_images", "splits", PARAMS],
                ["manifest", "split_findings"],
                name="check_splits",
            ),
            Node(
                nodes.collect_findings,
                ["annotation_findings", "file_findings", "image_findings", "split_findings", PARAMS],
                "findings",
                name="collect_findings",
            ),
        ],
        tags="data",
    )
