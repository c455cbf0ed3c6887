"""How an image file becomes pixels."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How image files are read: the same for all images of a data set, and for the new images that its model sees."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    orientation: Literal["apply", "keep", "refuse"] = "apply"
    """What the EXIF orientation of a photo, or the orientation of a TIFF, does: apply: turn the picture, as viewers and
    most label tools do; keep: leave the pixels as stored; refuse: drop such images, with a finding."""
    bands: tuple[Annotated[int, Ge(1)], ...] | None = None
    """Bands to use, counted from 1: one, or three that become red, green and blue. null: an image has one or three
    bands, and alpha is left out."""
    value_range: tuple[float, float] | None = None
    """The values of signed, 32-bit and float pixels that become 0 and 65535; values beyond are clipped. null: such
    images are dropped, with a finding. Pixels of 8 and 16 bits keep their values."""
    max_pixels: Annotated[int, Ge(1)] = 50_000_000
    """Height times width of the largest image that is decoded; a small file can claim to be a huge image."""

    def __post_init__(self) -> None:
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise ValueError(f"`bands` must be one or three numbers, counted from 1, found {list(self.bands)}")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"`value_range` must be two rising values, found {list(self.value_range)}")
