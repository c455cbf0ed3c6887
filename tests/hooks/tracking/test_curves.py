import pandas as pd

from seg_pipeline.hooks.tracking.metrics import score_metrics
from seg_pipeline.hooks.tracking.recorder import history_curves, trial_curves


def test_a_search_of_learning_rates_alone_has_trials_too():
    trials = pd.DataFrame(
        {
            "trial": [1, 2],
            "epoch": [1, 1],
            "learning_rate": [0.01, 0.1],
            "val_dice": [0.5, None],
            "diverged": [False, True],
        }
    )
    first, second = trial_curves(trials)
    assert (first.name, first.rows) == (
        "trial 1",
        [{"step": 1, "values": {"train/learning_rate": 0.01, "val/dice": 0.5}}],
    )
    assert (second.tags, second.end) == ({"state": "diverged"}, "FAILED")
    assert second.rows == [{"step": 1, "values": {"train/learning_rate": 0.1}}]


def test_a_pruned_trial_ended_as_planned():
    (curve,) = trial_curves(pd.DataFrame({"trial": [3], "epoch": [2], "val_dice": [0.25], "state": ["pruned"]}))
    assert (curve.end, curve.tags) == ("FINISHED", {"state": "pruned"})


def test_epochs_of_a_history_without_folds_have_no_name():
    history = pd.DataFrame({"fold": -1, "epoch": [4, 5], "train_loss": [0.5, 0.25], "device": "cpu"})
    (curve,) = history_curves(history)
    assert curve.name == ""
    assert curve.rows == [{"step": 4, "values": {"train/loss": 0.5}}, {"step": 5, "values": {"train/loss": 0.25}}]


def scores_of(num_classes: int) -> dict:
    of_class = {"dice": 0.5, "iou": 0.25, "hd95": 2.0, "boundary_iou": 0.125, "precision": 1.0, "recall": 0.75}
    return {"mean_dice": 0.5, "mean_iou": 0.25, "classes": {f"c{n}": of_class for n in range(num_classes)}}


def test_a_score_is_logged_for_all_classes_or_none():
    assert list(score_metrics(scores_of(3), 8)) == [
        "test/mean_dice", "test/mean_iou", "test/dice/c0", "test/dice/c1", "test/dice/c2",
        "test/iou/c0", "test/iou/c1", "test/iou/c2",
    ]  # fmt: skip
    assert len(score_metrics(scores_of(3), 10)) == 8
    assert list(score_metrics(scores_of(31), 32)) == ["test/mean_dice", "test/mean_iou"]
    assert len(score_metrics(scores_of(3), 32)) == 20
