"""Order of the hparam_search nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.hparam_search import nodes

SETTINGS = ["params:dataset", "params:scores", "params:training", "params:hparam_search", "params:seed"]
SANITY_FIGURES = ["overfit_curve", "overfit_sheet"]
SEARCH_FIGURES = ["learning_rate_curves", "weight_decay_curves", "search_heat_map", "search_importances"]


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.run_sanity_checks,
                ["train_val_images", *SETTINGS],
                ["sanity_checks", *SANITY_FIGURES],
                name="run_sanity_checks",
            ),
            Node(
                nodes.search_settings,
                ["train_val_images", "sanity_checks", "search_folder", "pixel_cache", *SETTINGS],
                "search_trials",
                name="search_settings",
            ),
            Node(
                nodes.choose_hyperparameters,
                ["train_val_images", "search_trials", *SETTINGS],
                "best_hyperparameters",
                name="choose_hyperparameters",
            ),
            Node(
                nodes.plot_search,
                ["search_trials", "params:hparam_search"],
                [*SEARCH_FIGURES],
                name="plot_search",
            ),
            Node(
                nodes.make_search_page,
                [
                    "sanity_checks",
                    "search_trials",
                    "best_hyperparameters",
                    "params:hparam_search",
                    *SANITY_FIGURES,
                    *SEARCH_FIGURES,
                ],
                "search_page",
                name="make_search_page",
            ),
        ],
        tags="model",
    )
