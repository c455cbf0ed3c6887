"""What a search does; ``params`` reads the same classes from YAML."""

from __future__ import annotations

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
    """Checks before any search; docs/explanation/search.md says what each can see."""

    stop: bool = True
    """A failed gate stops the pipeline; false: it goes on, with a warning."""
    num_images: Annotated[int, Ge(2)] = 32
    """Train images whose input, masks and first loss are looked at."""
    tolerance: Annotated[float, Gt(0)] = 0.6
    """How far each term of the untrained loss may be from its expected value, as a share of that. Sound configs were
    seen up to 0.59 off (bce 1.10, a narrow decoder)."""
    most_covered: Annotated[float, Gt(0), Le(1)] = 0.5
    """Share of an image and of its border that the mask of a class may take in the mean of the images."""
    overfit_images: Annotated[int, Ge(2)] = 4
    overfit_dice: Share = 0.95
    """Dice that training on these images alone must reach ..."""
    overfit_steps: Annotated[int, Ge(1)] = 160
    """... in so many steps."""
    pairing: Annotated[float, Gt(0), Lt(1)] | None = 0.01
    """Largest p-value of the test that predictions fit an image's own mask better than those of others; null: none."""


@dataclass(frozen=True, kw_only=True)
class GridSettings(Settings):
    """Learning rates, then weight decays at the best rate."""

    learning_rates: Annotated[tuple[Rate, ...], MinLen(2)] | None = None
    """null: `num_rates` around `training.optimizer.learning_rate`."""
    num_rates: Annotated[int, Ge(3)] = 3
    factor: Annotated[float, Gt(1)] = 3.0
    """From one rate to the next."""
    weight_decays: tuple[Decay, ...] = (1e-3, 1e-2, 1e-1)
    """Tried at the best rate; empty: none."""
    cross: bool = False
    """Try every rate with every decay."""
    epochs: Annotated[int, Ge(1)] = 4
    """Of each trial; each starts from equal weights."""
    validate_every: Annotated[int, Ge(1)] = 1
    repeats: Annotated[int, Ge(1)] = 1
    """Trainings of each point, each from another seed; their mean decides."""
    choose_by: Rule = "dice"
    """Highest validation Dice, or lowest validation loss."""
    average_last_validations: Annotated[int, Ge(1)] = 2
    """A trial's score is the mean of so many last validations."""
    extend: bool = True
    """Go on beyond the grid's edge, once, where the best point lies there."""
    max_minutes: Annotated[float, Gt(0)] | None = None
    """No trial starts after so many minutes of trials (per worker), those of earlier lives included."""


@dataclass(frozen=True, kw_only=True)
class Range(Settings):
    """Numbers from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False
    step: Annotated[float, Gt(0)] | None = None
    """Whole numbers where low, high and step are."""

    def __post_init__(self) -> None:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"a range needs `low` below `high`, found {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a range with `log: true` starts above 0 and has no `step`")

    @property
    def whole(self) -> bool:
        return self.step is not None and all(float(one).is_integer() for one in (self.low, self.high, self.step))


@dataclass(frozen=True, kw_only=True)
class TpeSettings(Settings):
    """Optuna's tree-structured Parzen estimator over any settings of the config."""

    space: dict[str, Range | list[Any]] = field(default_factory=dict)
    """Dotted name of a setting -> a range, or a list of choices. Empty: no such search."""
    trials: Annotated[int, Ge(1)] = 20
    max_minutes: Annotated[float, Gt(0)] | None = None
    """No trial starts after so many minutes of trials (per worker)."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Ends a trial that is worse, by the same epoch, than the median; or by Hyperband's brackets."""
    startup_trials: Annotated[int, Ge(1)] = 5
    """Drawn at random, and never pruned by the median."""
    warmup_epochs: Annotated[int, Ge(0)] = 1
    """No trial is pruned in its first epochs."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings(Settings):
    """On what the trials run, and where they are kept: what cannot change a grid's result."""

    kind: Literal["in_process", "processes", "ray"] = "in_process"
    workers: Annotated[int, Ge(1)] = 2
    """Trials at once; for processes and ray."""
    threads: Annotated[int, Ge(1)] | None = None
    """Of each trial; null: as torch has it, or the cores divided among the processes."""
    storage: str | None = None
    """Database URL of the Optuna study; null: a journal file."""
