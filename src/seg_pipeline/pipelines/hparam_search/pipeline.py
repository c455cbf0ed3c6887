"""Order of the hparam_search nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.hparam_search import nodes

SETTINGS = ["params:dataset", "params:scores", "params:training", "params:hparam_search", "params:seed"]
SANITY_FIGURES = ["overfit_curve", "overfit_sheet"]
SEARCH_FIGURES = ["learning_rate_curves", "weight_decay_curves", "search_heat_map", "search_importances"]


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(nodes.run_sanity_checks, ["train_val_images", *SETTINGS], ["sanity_checks", *SANITY_FIGURES]),
            node(
                nodes.search_settings,
                ["train_val_images", "sanity_checks", "search_folder", "pixel_cache", *SETTINGS],
                "search_trials",
            ),
            node(
                nodes.choose_hyperparameters, ["train_val_images", "search_trials", *SETTINGS], "best_hyperparameters"
            ),
            node(nodes.plot_search, ["search_trials", "params:hparam_search"], [*SEARCH_FIGURES]),
            node(
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
            ),
        ],
        tags="model",
    )
