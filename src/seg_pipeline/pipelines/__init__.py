"""One package a pipeline: nodes.py says what runs, pipeline.py in which order.

The types of what passes between nodes, apart from parameters, are for readers and the type checker: Kedro resolves
annotations at run time, and listing the pipelines shall import neither pandas nor Matplotlib for one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
    from numpy import ndarray as ndarray
    from pandas import DataFrame as DataFrame

    from seg_pipeline.segmentation.prediction.bundle import Bundle as Bundle
else:
    Bundle = DataFrame = Figure = ndarray = object
