"""From a checkpoint or a bundle to masks: tiles, test-time options, postprocessing and how it is chosen."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "postprocessing_choice": ["choose_postprocessing"],
        "prediction_options": ["measure_options"],
        "checkpoint_predictor": ["choose_predictor"],
        "postprocessing": ["Postprocessing"],
        "predict_images": ["predict_masks"],
    },
)
