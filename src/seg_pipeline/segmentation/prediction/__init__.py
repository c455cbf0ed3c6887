"""Predict masks with a checkpoint or a bundle: tiling, test-time options, and the choice of postprocessing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "postprocessing_choice": ["Choices", "choose_postprocessing"],
        "prediction_options": ["choose_tta", "measure_options"],
        "checkpoint_predictor": ["choose_predictor"],
        "postprocessing": ["Postprocessing"],
        "predict_images": ["predict_masks"],
        "uncertainty_choice": ["with_temperatures"],
    },
)
