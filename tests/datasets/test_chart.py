import inspect
import json
import subprocess
import sys

import numpy as np
from plotly import graph_objects

from seg_pipeline.datasets.chart import ChartDataset


def test_a_chart_loads_as_it_was_saved_and_is_previewed_as_json(tmp_path):
    chart = graph_objects.Figure(
        graph_objects.Scatter(x=np.array([1, 2]), y=[3.5, np.nan], text=["größer", "b"]), {"title": {"text": "Points"}}
    )
    dataset = ChartDataset(filepath=str(tmp_path / "reports" / "chart.json"))
    dataset.save(chart)
    loaded = dataset.load()
    assert isinstance(loaded, graph_objects.Figure)
    assert json.loads(loaded.to_json()) == json.loads(chart.to_json())
    shown = dataset.preview()
    assert shown["layout"]["title"] == {"text": "Points"}
    kind = inspect.signature(dataset.preview).return_annotation
    assert getattr(kind, "__name__", kind) == "PlotlyPreview"  # as Kedro-Viz asks


def test_plotly_is_not_imported_before_a_chart_is_there():
    code = "import sys; import seg_pipeline.datasets.chart; sys.exit('plotly' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
