from pathlib import Path

import pandas as pd
import pytest

from seg_pipeline import segmentation as seg
from seg_pipeline.params import EvaluationParams, ExportParams
from seg_pipeline.pipelines.evaluation import nodes
from seg_pipeline.pipelines.export import nodes as export
from seg_pipeline.segmentation.settings.training import PredictSettings, ScoreSettings

OPTIONS = pd.DataFrame(
    {"option": ["plain", "flips"], "gain": [0, 0.03], "gain_low": [0, 0.02], "gain_high": [0, 0.04], "cost": [1, 3.9]}
)


@pytest.mark.parametrize("tta", ["auto", "horizontal"])
def test_what_auto_means_is_chosen_on_validation_and_used_everywhere(monkeypatch, tta):
    used = []

    def noted(*_, prediction=None, settings=None, **given):
        used.append((prediction or settings).tta)
        return {"settings": seg.prediction.Postprocessing.none(1, 0.5).to_dict(), "classes": ["a"]}, pd.DataFrame()

    monkeypatch.setattr(seg.prediction, "choose_postprocessing", noted, raising=False)
    monkeypatch.setattr(seg.prediction, "predict_masks", noted, raising=False)
    monkeypatch.setattr(seg.export, "make_bundle", noted, raising=False)
    monkeypatch.setattr(seg.metrics, "before_and_after", lambda *_: None, raising=False)
    given = PredictSettings(tta=tta)
    rows = pd.DataFrame({"split": ["test"]})
    chosen, _ = nodes.choose_postprocessing(rows, {}, ScoreSettings(), given, EvaluationParams(), 0, OPTIONS)
    nodes.predict_test(rows, {}, chosen, given, EvaluationParams())
    export.build_bundle({}, chosen, rows, given, ExportParams(formats=["onnx"]), Path())
    assert used == [{"auto": "flips"}.get(tta, tta)] * 3
    kept = {"option": "flips", "gain": 0.03, "gain_interval": [0.02, 0.04], "cost": 3.9}
    assert chosen.get("tta") == (kept if tta == "auto" else None)
