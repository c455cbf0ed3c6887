"""Hyperparameter search: sanity checks, short trainings on a grid, then, if asked for, points that Optuna proposes.

``sanity_checks`` runs ``initial_loss`` and ``overfit_check``. ``grid`` and ``proposals`` say which points to train,
``trials`` trains them on ``workers`` and records them in a ``study``, and ``ranking`` picks the best point.
"""

from seg_pipeline.segmentation.search.figures import SearchFigures, search_figures
from seg_pipeline.segmentation.search.grid import search
from seg_pipeline.segmentation.search.ranking import best_hyperparameters
from seg_pipeline.segmentation.search.sanity_checks import run_sanity_checks, stop_on_failed_checks

__all__ = [
    "SearchFigures",
    "best_hyperparameters",
    "run_sanity_checks",
    "search",
    "search_figures",
    "stop_on_failed_checks",
]
