"""One package a pipeline: nodes.py says what runs, pipeline.py in which order."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
else:
    Figure = object  # Kedro resolves annotations at run time, and no pipeline shall import matplotlib for one
