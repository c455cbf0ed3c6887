"""Font size, resolution and Matplotlib settings of all figures of this process and its child processes.

It does not import Matplotlib, so a hook can set it in runs that draw nothing; ``plotting.style`` reads it when drawing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

VARIABLE = "SEG_PIPELINE_FIGURES"
"""Passes the settings to new processes, such as those of Kedro's ParallelRunner, which run no hooks."""


@dataclass
class Appearance:
    font_size: float = 9
    """Points; titles are one larger, numbers inside a plot one smaller."""
    dpi: int = 150
    """Dots per inch of saved figures."""
    rc: Mapping[str, Any] = field(default_factory=dict)
    """Matplotlib settings that override all others, such as {"font.family": "serif"}."""


CURRENT = Appearance(**json.loads(os.environ.get(VARIABLE, "{}")))


def configure(*, font_size: float = 9, dpi: int = 150, rc: Mapping[str, Any] | None = None) -> None:
    """Set the appearance of all figures drawn from now on; settings that are not given return to their defaults."""
    CURRENT.font_size, CURRENT.dpi, CURRENT.rc = font_size, dpi, dict(rc or {})
    os.environ[VARIABLE] = json.dumps(asdict(CURRENT))
