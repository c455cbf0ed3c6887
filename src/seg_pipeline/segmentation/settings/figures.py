"""Font size, resolution and Matplotlib settings of all figures of this process and of those it starts.

Free of Matplotlib, so that a hook can set it where nothing is drawn; ``plotting.style`` reads it whenever
it draws.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

VARIABLE = "SEG_PIPELINE_FIGURES"
"""The way to processes that are started afresh, such as those of Kedro's ParallelRunner, which runs no hook there."""


@dataclass
class Appearance:
    font_size: float = 9
    """Points; titles are one larger, numbers inside a plot one smaller."""
    dpi: int = 150
    """Dots an inch of saved figures."""
    rc: Mapping[str, Any] = field(default_factory=dict)
    """Matplotlib settings that go before all others, such as {"font.family": "serif"}."""


CURRENT = Appearance(**json.loads(os.environ.get(VARIABLE, "{}")))


def configure(*, font_size: float = 9, dpi: int = 150, rc: Mapping[str, Any] | None = None) -> None:
    """Sets the look of every figure drawn from now on; what is not given goes back to its default."""
    CURRENT.font_size, CURRENT.dpi, CURRENT.rc = font_size, dpi, dict(rc or {})
    os.environ[VARIABLE] = json.dumps(asdict(CURRENT))
