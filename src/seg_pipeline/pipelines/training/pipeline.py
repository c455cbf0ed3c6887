"""Order of the training nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.training import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(
                nodes.choose_training_config,
                [
                    "train_val_images",
                    "previous_pseudo_labels",
                    "best_hyperparameters",
                    "params:dataset",
                    "params:scores",
                    "params:training",
                    "params:seed",
                ],
                "training_config",
            ),
            node(
                nodes.train_model,
                [
                    "train_val_images",
                    "previous_pseudo_labels",
                    "training_config",
                    "resume_from",
                    "pixel_cache",
                    "params:training",
                ],
                ["last_checkpoint", "checkpoint", "training_history", "training_curves", "validation_sheet"],
            ),
        ],
        tags="model",
    )
