"""Order of the data_processing nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.data_processing import nodes

PARAMS = "params:data_processing"
FINDINGS = [
    "annotation_findings",
    "file_findings",
    "exclusion_findings",
    "image_findings",
    "late_file_findings",
    "check_findings",
    "split_findings",
]


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(
                nodes.clean_annotations,
                ["raw_metadata", "params:dataset", PARAMS],
                ["annotations", "annotation_findings", "num_rows_read", "annotator_agreement"],
            ),
            node(nodes.pivot_annotations, ["annotations", "params:dataset", PARAMS], "annotated_images"),
            node(
                nodes.merge_files,
                ["annotated_images", "image_files", "mask_files", "annotation_findings", PARAMS],
                ["located_images", "file_findings", "listed_files"],
            ),
            node(
                nodes.exclude_images,
                ["located_images", "excluded_images", PARAMS],
                ["selected_images", "exclusion_findings"],
            ),
            node(
                nodes.measure_images,
                ["selected_images", "previous_measurements", "measured_parts", "params:dataset", PARAMS],
                "measurements",
            ),
            node(
                nodes.join_measurements,
                ["selected_images", "measurements", "params:dataset", PARAMS],
                ["measured_images", "image_findings"],
            ),
            node(nodes.find_late_files, ["listed_files", "image_files", "image_findings"], "late_file_findings"),
            node(nodes.check_images, ["measured_images", "annotations", PARAMS], ["check_findings", "class_overlaps"]),
            node(nodes.assign_splits, ["measured_images", "predefined_splits", PARAMS, "params:seed"], "splits"),
            node(
                nodes.check_splits,
                ["measured_images", "splits", PARAMS],
                ["manifest", "train_val_images", "split_findings"],
            ),
            node(nodes.collect_findings, [PARAMS, *FINDINGS], "findings"),
            node(
                nodes.write_findings_page,
                ["findings", "manifest", "num_rows_read", "annotations", "listed_files"],
                "findings_page",
            ),
        ],
        tags="data",
    )
