"""Order of the hparam_search nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.hparam_search import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.search_learning_rates,
                [
                    "development",
                    "sample_cache",
                    "params:dataset",
                    "params:scores",
                    "params:training",
                    "params:hparam_search",
                    "params:seed",
                ],
                "search_trials",
                name="search_learning_rates",
            ),
            Node(
                nodes.choose_hyperparameters,
                ["development", "search_trials"],
                "best_hyperparameters",
                name="choose_hyperparameters",
            ),
            Node(
                nodes.plot_learning_rates,
                ["search_trials", "best_hyperparameters"],
                "learning_rate_curves",
                name="plot_learning_rates",
            ),
        ],
        tags="model",
    )
