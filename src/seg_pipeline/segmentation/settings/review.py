"""Which predictions a person should look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from seg_pipeline.segmentation.settings.training import Settings


@dataclass(frozen=True, kw_only=True)
class ReviewSettings(Settings):
    """The flag "look at this"; its limit is chosen on validation images and checked on test images."""

    dice_below: Annotated[float, Gt(0), Le(1)] = 0.8
    """An image with a lower Dice, as the mean over its classes, should be flagged."""
    catch: Annotated[float, Ge(0.05), Lt(1)] = 0.9
    """Share of these images that the flag should catch; a higher share flags more good images too."""
