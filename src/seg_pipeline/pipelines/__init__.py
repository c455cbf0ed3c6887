"""One package per pipeline: nodes.py holds its functions, pipeline.py connects them.

The types below are for readers and the type checker. Kedro resolves annotations at run time, and listing the pipelines
must not import pandas or Matplotlib for that.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kedro.pipeline import Node

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
    from numpy import ndarray as ndarray
    from pandas import DataFrame as DataFrame

    from seg_pipeline.segmentation.prediction.bundle import Bundle as Bundle
else:
    Bundle = DataFrame = Figure = ndarray = object


def node(function: Callable, inputs: str | list[str] | dict[str, str], outputs: str | list[str]) -> Node:
    """A node with the name of its function."""
    return Node(function, inputs, outputs, name=function.__name__)
