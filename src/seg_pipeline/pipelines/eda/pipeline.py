"""Order of the eda nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
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
            node(nodes.tabulate_images, ["manifest", PARAMS], "image_table"),
            node(nodes.select_images, ["manifest", PARAMS, SEED], ["sample_rows", "pixel_rows", "series_rows"]),
            node(nodes.plot_samples, ["sample_rows", PARAMS], "sample_sheet"),
            node(
                nodes.plot_augmentations,
                ["sample_rows", "params:dataset", "params:scores", "params:training", SEED],
                "augmentation_sheet",
            ),
            node(nodes.animate_series, ["series_rows", PARAMS], ["series_gif", "series_mp4"]),
            node(nodes.count_classes, "manifest", "class_counts"),
            node(nodes.plot_class_counts, "class_counts", "class_counts_chart"),
            node(nodes.plot_class_overview, ["image_table", PARAMS], "class_overview"),
            node(nodes.measure_pixels, ["pixel_rows", PARAMS], "intensities"),
            node(nodes.plot_image_overview, ["image_table", "intensities"], "image_overview"),
            node(nodes.plot_class_locations, ["pixel_rows", "image_table", PARAMS], "class_locations"),
            node(nodes.plot_series_overview, ["image_table", PARAMS], "series_overview"),
            node(nodes.plot_point_chart, ["image_table", PARAMS, SEED], "point_chart"),
            node(nodes.compare_splits, "image_table", "split_report"),
            node(nodes.plot_split_comparison, ["image_table", "split_report", PARAMS], "split_comparison"),
            node(
                nodes.estimate_memory,
                ["image_table", "params:dataset", "params:training", "pixel_cache"],
                "memory_estimate",
            ),
            node(nodes.plot_memory, "memory_estimate", "memory_chart"),
            node(
                nodes.make_data_set_page,
                {
                    "images": "image_table",
                    "class_counts": "class_counts",
                    "memory_estimate": "memory_estimate",
                    **{name: name for name in PAGE_FIGURES},
                },
                "data_set_page",
            ),
        ],
        tags="explore",
    )
