"""Order of the eda nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.eda import nodes

PARAMS, SEED = "params:eda", "params:seed"
PAGE_FIGURES = (
    "sample_sheet",
    "series_gif",
    "augmentation_sheet",
    "class_counts_chart",
    "class_overview",
    "class_locations",
    "image_overview",
    "series_overview",
    "split_comparison",
    "memory_chart",
)


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(nodes.tabulate_images, ["manifest", PARAMS], "image_table", name="tabulate_images"),
            Node(
                nodes.select_images,
                ["manifest", PARAMS, SEED],
                ["sample_rows", "pixel_rows", "series_rows"],
                name="select_images",
            ),
            Node(nodes.plot_samples, ["sample_rows", PARAMS], "sample_sheet", name="plot_samples"),
            Node(
                nodes.plot_augmentations,
                ["sample_rows", "params:dataset", "params:scores", "params:training", SEED],
                "augmentation_sheet",
                name="plot_augmentations",
            ),
            Node(nodes.animate_series, ["series_rows", PARAMS], ["series_gif", "series_mp4"], name="animate_series"),
            Node(nodes.count_classes, "manifest", "class_counts", name="count_classes"),
            Node(nodes.plot_class_counts, "class_counts", "class_counts_chart", name="plot_class_counts"),
            Node(nodes.plot_class_overview, ["image_table", PARAMS], "class_overview", name="plot_class_overview"),
            Node(nodes.measure_pixels, ["pixel_rows", PARAMS], "intensities", name="measure_pixels"),
            Node(
                nodes.plot_image_overview, ["image_table", "intensities"], "image_overview", name="plot_image_overview"
            ),
            Node(
                nodes.plot_class_locations,
                ["pixel_rows", "image_table", PARAMS],
                "class_locations",
                name="plot_class_locations",
            ),
            Node(nodes.plot_series_overview, ["image_table", PARAMS], "series_overview", name="plot_series_overview"),
            Node(nodes.plot_point_chart, ["image_table", PARAMS, SEED], "point_chart", name="plot_point_chart"),
            Node(nodes.compare_splits, "image_table", "split_report", name="compare_splits"),
            Node(
                nodes.plot_split_comparison,
                ["image_table", "split_report", PARAMS],
                "split_comparison",
                name="plot_split_comparison",
            ),
            Node(
                nodes.estimate_memory,
                ["image_table", "params:dataset", "params:training"],
                "memory_estimate",
                name="estimate_memory",
            ),
            Node(nodes.plot_memory, "memory_estimate", "memory_chart", name="plot_memory"),
            Node(
                nodes.make_data_set_page,
                {
                    "images": "image_table",
                    "class_counts": "class_counts",
                    "memory_estimate": "memory_estimate",
                    **{name: name for name in PAGE_FIGURES},
                },
                "data_set_page",
                name="make_data_set_page",
            ),
        ],
        tags="explore",
    )
