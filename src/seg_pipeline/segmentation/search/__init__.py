"""Which settings to train with: checks before, short trainings on grids, then Optuna; kept in an Optuna study.

``gates`` are the checks, ``protocol`` says which trials run, ``coordinator`` runs them on the workers of ``pool`` and
keeps them in a ``study``, ``choice`` compares them.
"""

from seg_pipeline.segmentation.search.best_point import best_hyperparameters
from seg_pipeline.segmentation.search.figures import SearchFigures, search_figures
from seg_pipeline.segmentation.search.sanity_checks import run_sanity_checks, stop_on_failed_checks
from seg_pipeline.segmentation.search.steps import search

__all__ = [
    "SearchFigures",
    "best_hyperparameters",
    "run_sanity_checks",
    "search",
    "search_figures",
    "stop_on_failed_checks",
]
