"""What a data set holds: tables, figures, contact sheets and animations."""

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
        "dataset_figures": [
            "class_overview",
            "image_overview",
            "class_locations",
            "point_chart",
            "series_overview",
            "split_comparison",
        ],
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
