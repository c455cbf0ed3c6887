"""Catalog entry for an interactive chart."""

import json
from typing import TYPE_CHECKING

from kedro_datasets._typing import PlotlyPreview

from seg_pipeline.datasets.atomic import JSONDataset

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class ChartDataset(JSONDataset):
    """A Plotly figure, which Kedro-Viz shows.

    ``kedro_datasets.plotly`` has such a class, but importing it also imports plotly.express, which takes 2.6 s.
    """

    def save(self, data: "Figure") -> None:
        super().save(json.loads(data.to_json()))

    def load(self) -> "Figure":
        from plotly.graph_objects import Figure

        return Figure(super().load())

    def preview(self) -> PlotlyPreview:
        return PlotlyPreview(super().load())
