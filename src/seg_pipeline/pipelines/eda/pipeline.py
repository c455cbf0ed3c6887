"""Order of the eda nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.eda import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.plot_samples,
                ["manifest", "params:eda", "params:seed"],
                "sample_sheet",
                name="plot_samples",
            ),
            Node(nodes.count_classes, "manifest", "class_counts", name="count_classes"),
            Node(nodes.plot_class_counts, "class_counts", "class_counts_chart", name="plot_class_counts"),
        ],
        tags="report",
    )
