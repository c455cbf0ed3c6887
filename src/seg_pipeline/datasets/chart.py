"""Catalog entry for an interactive chart."""

from kedro_datasets.plotly import JSONDataset

from seg_pipeline.datasets.atomic import Atomic


class ChartDataset(Atomic, JSONDataset):
    """A Plotly figure, which Kedro-Viz shows."""
