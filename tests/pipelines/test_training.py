"""The node that trains, without a training."""

from types import SimpleNamespace

import pandas as pd
import pytest

from seg_pipeline import segmentation as seg
from seg_pipeline.params import TrainingParams
from seg_pipeline.pipelines.training.nodes import train_model
from seg_pipeline.segmentation.training.run import Saved


@pytest.mark.parametrize("folds", [None, 2])
def test_the_end_is_saved_once_with_temperatures(folds, monkeypatch):
    """Each model has two epochs; the temperatures are fitted at the end of the last one alone."""
    moments = [
        Saved(
            {"current": {"finished": epoch == 2}, "models": ["done"] * fold, "folds": folds},
            {"at": (fold, epoch)},
            pd.DataFrame(),
        )
        for fold in range(folds or 1)
        for epoch in (1, 2)
    ]
    monkeypatch.setattr(seg.training, "train", lambda *_, **__: iter(moments))
    monkeypatch.setattr(seg.settings.TrainingConfig, "from_dict", lambda _: None)
    monkeypatch.setattr(
        seg.exploration, "TrainingFigures", lambda _: SimpleNamespace(update=lambda _: ("curves", "sheet"))
    )
    monkeypatch.setattr(seg.prediction, "with_temperatures", lambda best, *_, **__: {**best, "temperatures": (1.0,)})
    given = TrainingParams(folds=folds, compute={"device": "cpu"})
    saved = list(train_model(pd.DataFrame(), None, {}, None, None, given))
    assert [one[0] for one in saved] == [one.last for one in moments]
    assert [one[1] for one in saved[:-1]] == [one.best for one in moments[:-1]]
    assert saved[-1][1] == {**moments[-1].best, "temperatures": (1.0,)}
