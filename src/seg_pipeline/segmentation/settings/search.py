"""Settings of the hyperparameter search; ``params`` reads the same classes from YAML."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from seg_pipeline.segmentation.settings.training import Settings, Share

Rate = Annotated[float, Gt(0), Lt(10)]
Decay = Annotated[float, Ge(0), Lt(10)]
Rule = Literal["dice", "loss"]


@dataclass(frozen=True, kw_only=True)
class SanityCheckSettings(Settings):
    """Sanity checks before the search; docs/explanation/search.md says what each can detect."""

    stop: bool = True
    """Stop the pipeline if a check fails; false: only warn."""
    num_images: Annotated[int, Ge(2)] = 32
    """Training images for the check of input, masks and initial loss."""
    tolerance: Annotated[float, Gt(0)] = 0.6
    """Largest relative difference between each term of the untrained loss and its expected value. In correct
    configurations it is up to 0.59 (bce 1.10, a narrow decoder)."""
    most_covered: Annotated[float, Gt(0), Le(1)] = 0.5
    """Largest mean share of the image and of its border that the masks of a class may cover."""
    overfit_images: Annotated[int, Ge(2)] = 4
    """Training images to overfit."""
    overfit_dice: Share = 0.95
    """Dice that overfitting must reach."""
    overfit_steps: Annotated[int, Ge(1)] = 160
    """Steps within which it must reach this Dice."""
    pairing: Annotated[float, Gt(0), Lt(1)] | None = 0.01
    """Largest p-value of the permutation test that predictions on unseen images fit their own masks; null: no test."""


@dataclass(frozen=True, kw_only=True)
class GridSettings(Settings):
    """Grid of learning rates, then of weight decays at the best rate."""

    learning_rates: Annotated[tuple[Rate, ...], MinLen(2)] | None = None
    """Rates to try; null: `num_rates` around `training.optimizer.learning_rate`."""
    num_rates: Annotated[int, Ge(3)] = 3
    """Number of rates if `learning_rates` is null."""
    factor: Annotated[float, Gt(1)] = 3.0
    """Ratio between neighbouring rates if `learning_rates` is null."""
    weight_decays: tuple[Decay, ...] = (1e-3, 1e-2, 1e-1)
    """Decays to try at the best rate; empty: none."""
    cross: bool = False
    """Try every rate with every decay."""
    epochs: Annotated[int, Ge(1)] = 4
    """Length of each trial; all trials start from the same weights."""
    validate_every: Annotated[int, Ge(1)] = 1
    """Epochs between validations."""
    repeats: Annotated[int, Ge(1)] = 1
    """Training runs per point, each with its own seed; their mean score counts."""
    choose_by: Rule = "dice"
    """Choose the highest validation Dice or the lowest validation loss."""
    average_last_validations: Annotated[int, Ge(1)] = 2
    """A trial's score is the mean of this many last validations."""
    extend: bool = True
    """Extend the grid once if the best point is at its edge."""
    max_minutes: Annotated[float, Gt(0)] | None = None
    """Start no trial after this many minutes of trials per worker, interrupted runs included."""


@dataclass(frozen=True, kw_only=True)
class Range(Settings):
    """Numbers from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False
    step: Annotated[float, Gt(0)] | None = None
    """Distance between values; values are integers if low, high and step are."""

    def __post_init__(self) -> None:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"a range needs `low` below `high`, found {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a range with `log: true` starts above 0 and has no `step`")

    @property
    def whole(self) -> bool:
        return self.step is not None and all(float(number).is_integer() for number in (self.low, self.high, self.step))


@dataclass(frozen=True, kw_only=True)
class TpeSettings(Settings):
    """Search any settings with Optuna's tree-structured Parzen estimator."""

    space: dict[str, Range | list[Any]] = field(default_factory=dict)
    """Maps the dotted name of a setting to a range or a list of choices; empty: no such search."""
    trials: Annotated[int, Ge(1)] = 20
    """Number of trials."""
    max_minutes: Annotated[float, Gt(0)] | None = None
    """Start no trial after this many minutes of trials per worker."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Stop trials early: those below the median of the same epoch, or by Hyperband's brackets."""
    startup_trials: Annotated[int, Ge(1)] = 5
    """Number of first trials, which are drawn at random and not pruned by the median."""
    warmup_epochs: Annotated[int, Ge(0)] = 1
    """Number of first epochs in which a trial is not pruned."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings(Settings):
    """Where trials run and are recorded. Nothing here changes the result of a grid."""

    kind: Literal["in_process", "processes"] = "in_process"
    """One trial after another in this process, or several in processes of `cluster.engine`."""
    workers: Annotated[int, Ge(1)] = 2
    """Trials that run at the same time with `processes`."""
    threads: Annotated[int, Ge(1)] | None = None
    """Threads per trial; null: torch's default in this process, else an equal share of the cores."""
    storage: str | None = None
    """Database URL of the Optuna study, such as `postgresql+psycopg://me@host/db` (extra `[postgres]`); null: a journal
    file."""
