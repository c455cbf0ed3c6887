"""Hyperparameter search: sanity checks, short training runs on a grid, then, if configured, points proposed by Optuna.

``sanity_checks`` runs ``initial_loss`` and ``overfit_check``. ``grid`` and ``proposals`` choose the points to train,
``trials`` trains them on ``workers`` and records them in a ``study``, and ``ranking`` chooses the best point.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "figures": ["SearchFigures", "search_figures"],
        "grid": ["search"],
        "ranking": ["best_hyperparameters"],
        "sanity_checks": ["run_sanity_checks", "stop_on_failed_checks"],
    },
)
