"""Order of the training nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.training import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.choose_recipe,
                [
                    "development",
                    "best_hyperparameters",
                    "params:dataset",
                    "params:scores",
                    "params:training",
                    "params:seed",
                ],
                "recipe",
                name="choose_recipe",
            ),
            Node(
                nodes.train_model,
                ["development", "recipe", "resume_from", "sample_cache", "params:training"],
                ["last_checkpoint", "checkpoint", "training_history", "training_curves", "validation_sheet"],
                name="train_model",
            ),
        ],
        tags="model",
    )
