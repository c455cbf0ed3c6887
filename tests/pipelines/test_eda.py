from pathlib import Path

import pandas as pd

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, EdaParams, TrainingParams
from seg_pipeline.pipelines.eda import nodes


def test_without_series_nothing_is_drawn_of_them():
    single = pd.DataFrame({"series": ["a", "b"]})
    assert nodes.plot_series_overview(single, EdaParams()) == ()
    assert nodes.animate_series(single.head(1), EdaParams()) == ((), ())


def test_the_free_disk_space_is_that_of_the_pixel_cache(monkeypatch):
    asked = []
    monkeypatch.setattr(seg.data, "free_disk", lambda folder: asked.append(folder) or 7, raising=False)
    estimate = {"cache": {"advice": "none"}}
    monkeypatch.setattr(seg.data, "estimate_memory", lambda *_, **given: estimate | given, raising=False)
    dataset = DatasetParams(task="multilabel", classes=["a"], objects=True)
    found = nodes.estimate_memory(pd.DataFrame({"area_a": [1]}), dataset, TrainingParams(), Path("/other"))
    assert (found["free_disk"], found["objects"]) == (7, True)
    assert asked == [Path("/other")]
