"""Explore a data set: tables, figures, contact sheets and animations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "animation": ["draw_series"],
        "contact_sheets": [
            "TrainingFigures",
            "augmentation_sheet",
            "images_with_most_classes",
            "prediction_sheet",
            "sample_sheet",
        ],
        "class_figures": ["class_overview", "split_comparison"],
        "image_figures": ["class_locations", "image_overview", "point_chart", "series_overview"],
        "tables": [
            "compare_splits",
            "describe_difference",
            "draw_random_rows",
            "image_table",
            "measured_classes",
            "pick_samples",
            "pick_series",
            "top_classes",
        ],
        "pixel_statistics": ["measure_intensities"],
    },
)
