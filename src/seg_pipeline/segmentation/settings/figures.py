"""Font size, resolution and Matplotlib settings of all figures in this process and its child processes.

Setting them does not import Matplotlib, which most runs that draw nothing never need; ``plotting.style`` reads them.
"""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

VARIABLE = "SEG_PIPELINE_FIGURES"
"""Passes the settings to new processes, such as those of Kedro's ParallelRunner, which run no hooks."""


@dataclass(kw_only=True)
class FigureSettings:
    """The appearance of all figures."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    font_size: Annotated[float, Ge(6), Le(16)] = 9
    """Points; titles are one larger, numbers inside a plot one smaller."""
    dpi: Annotated[int, Ge(50), Le(600)] = 192
    """Dots per inch of saved figures; pages show 96 per inch, so that 192 look sharp on every screen."""
    class_colours: list[str] = field(default_factory=list)
    """One colour per class, such as "#8000ff"; empty: those of `dataset.classes`, else a palette for colour-blind
    readers."""
    rc: dict[str, object] = field(default_factory=dict)
    """Other Matplotlib settings, such as {font.family: serif}."""

    def __post_init__(self) -> None:
        if invalid := [colour for colour in self.class_colours if not re.fullmatch("#[0-9a-fA-F]{6}", colour)]:
            raise ValueError(f"a colour must be like #8000ff, found {invalid[0]!r}")
        if self.rc:
            from matplotlib import RcParams  # imported here because it takes 0.3 s

            try:
                RcParams(self.rc)
            except (KeyError, ValueError) as error:
                raise ValueError(f"`rc` holds a setting that Matplotlib does not accept: {error.args[0]}") from None


CURRENT = FigureSettings(**json.loads(os.environ.get(VARIABLE, "{}")))


def configure(**settings: Any) -> None:
    """Set the appearance of all figures drawn from now on; omitted settings return to their defaults."""
    for name, value in asdict(FigureSettings(**settings)).items():
        setattr(CURRENT, name, value)
    os.environ[VARIABLE] = json.dumps(asdict(CURRENT))
