import math

import pytest

from seg_pipeline.segmentation.processes import TrainingFailed
from seg_pipeline.segmentation.search import best_rate, search_learning_rates


def fake_run(recipe):
    """A run whose Dice is best at rate 0.01 and which diverges above 0.1 after its first epoch."""
    rate = recipe.optimizer.learning_rate
    for epoch in range(1, recipe.fit.epochs + 1):
        if rate > 0.1 and epoch > 1:
            raise TrainingFailed("the mean train loss is nan")
        dice = epoch / 10 - abs(math.log10(rate) + 2) / 100
        yield {"epoch": epoch, "learning_rate": 0.0, "train_loss": 1.0, "val_loss": 1.0, "val_dice": dice}


def test_the_rate_with_the_best_last_epoch_wins(recipe):
    trials = search_learning_rates(recipe, [0.1, 0.001, 0.01], epochs=3, run=fake_run)
    assert trials["trial"].tolist() == [1] * 3 + [2] * 3 + [3] * 3
    assert trials["learning_rate"].unique().tolist() == [0.001, 0.01, 0.1]
    assert best_rate(trials) == {
        "learning_rate": 0.01,
        "val_dice": pytest.approx(0.3),
        "reason": "highest validation Dice (0.300) after 3 epochs of 3 rates",
    }


def test_a_rate_at_the_edge_says_so(recipe):
    trials = search_learning_rates(recipe, [0.01, 0.1], epochs=1, run=fake_run)
    assert best_rate(trials)["reason"].endswith("it lies at the grid's edge, so a rate beyond may do better")


def test_a_diverged_trial_is_marked_and_cannot_win(recipe):
    trials = search_learning_rates(recipe, [0.001, 1.0], epochs=2, run=fake_run)
    assert trials["diverged"].tolist() == [False, False, False, True]
    assert math.isnan(trials["val_dice"].iloc[-1])
    assert best_rate(trials)["learning_rate"] == 0.001


def test_when_all_diverge_there_is_no_best(recipe):
    trials = search_learning_rates(recipe, [1.0, 2.0], epochs=2, run=fake_run)
    with pytest.raises(ValueError, match=r"diverged at every learning rate tried \(1, 2\); add lower ones under"):
        best_rate(trials)
