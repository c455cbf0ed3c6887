"""Renamed and removed parameters, so that the check before a run can name the replacement."""

RENAMED = {
    "agreement.other": "agreement.compare_with",
    "data_processing.annotations.form": "data_processing.annotations.mask_format",
    "data_processing.annotations.several_per_class": "data_processing.annotations.multiple_masks",
    "data_processing.exclude": "data_processing.excluded_images",
    "dataset.unlabelled": "dataset.unlabelled_pixels",
    "export.forms": "export.formats",
    "hparam_search.gates": "hparam_search.sanity_checks",
    "hparam_search.grid.smooth_over": "hparam_search.grid.average_last_validations",
    "inference.form": "inference.bundle_format",
    "inference.out": "inference.output_folder",
    "prediction.members": "prediction.ensemble",
    "reporting.about": "reporting.model_card",
    "reporting.model_card.truth": "reporting.model_card.ground_truth",
    "reporting.model_card.truth_is_model_output": "reporting.model_card.ground_truth_is_model_output",
    "reporting.num_gallery": "reporting.images_per_gallery",
    "training.input.fit": "training.input.resize_mode",
    "training.model.freeze_encoder": "training.optimizer.freeze_encoder",
    "training.loss.stride": "training.loss.pixel_stride",
    "training.sampling.balance": "training.sampling.oversampling",
    "training.use_search": "training.use_search_result",
}

REMOVED = {
    "hparam_search.grid.range_test": "the range test is gone; leave `learning_rates: null` to search around "
    "`training.optimizer.learning_rate`, or search it in `hparam_search.tpe.space`",
    "hparam_search.grid.range_steps": "the range test is gone; delete the key",
    "hparam_search.pool.save_seconds": "trials have no checkpoints; delete the key",
}
