import math

import pandas as pd
import pytest

from seg_pipeline.segmentation.search.ranking import (
    DECAY,
    RATE,
    at_edge,
    best_hyperparameters,
    best_point,
    points,
    trial_score,
)
from seg_pipeline.segmentation.search.trials import trial_table
from seg_pipeline.segmentation.settings.search import GridSettings

LAST_TWO = GridSettings(average_last_validations=2, epochs=3)


def record(rate, dices, *, step="learning_rate", state="complete", decay=0.01, repeat=0, **values):
    rows = [
        {"epoch": epoch, "val_dice": dice, "val_loss": 1 - dice, "train_loss": 1.0, "seconds": 1.0}
        for epoch, dice in enumerate(dices, start=1)
    ]
    about = {"step": step, "repeat": repeat, "seed": 5 + repeat, "state": state, "reason": "", "rows": rows}
    return about | {"values": {RATE: rate, DECAY: decay, **values}}


def table(config, *records):
    return trial_table(list(records), config)


def test_a_score_is_the_mean_of_the_last_validations(config):
    trials = table(config, record(0.1, [0.1, 0.5, 0.7]))
    assert trial_score(trials, LAST_TWO) == pytest.approx(0.6)
    assert trial_score(trials, GridSettings(choose_by="loss", average_last_validations=1)) == pytest.approx(-0.3)
    assert trial_score(trials.assign(val_dice=math.nan), LAST_TWO) is None


def test_epochs_that_were_not_validated_do_not_count(config):
    trials = table(config, record(0.1, [0.2, math.nan, 0.6]))
    assert trial_score(trials, LAST_TWO) == pytest.approx(0.4)


def test_smoothing_decides_against_a_lucky_last_epoch(config):
    trials = table(config, record(0.1, [0.1, 0.1, 0.7]), record(0.3, [0.1, 0.6, 0.6]))
    assert best_point(points(trials, LAST_TWO))[RATE] == 0.3
    assert best_point(points(trials, GridSettings(average_last_validations=1)))[RATE] == 0.1


def test_the_score_of_a_point_is_the_mean_of_all_its_repeats(config):
    trials = table(
        config,
        record(0.1, [0.5, 0.5]),
        record(0.1, [0.7, 0.7], repeat=1),
        record(0.3, [0.9, 0.9]),
        record(0.3, [0.9], repeat=1, state="diverged"),
    )
    found = points(trials, LAST_TWO)
    assert found[[RATE, "repeats", "complete"]].values.tolist() == [[0.1, 2, True], [0.3, 2, False]]
    assert found[["score", "low", "high"]].iloc[0].tolist() == pytest.approx([0.6, 0.5, 0.7])
    assert best_point(found)[RATE] == 0.1


def test_ties_go_to_the_first_point_and_incomplete_points_never_win(config):
    equal = table(config, record(0.1, [0.5]), record(0.3, [0.5]))
    assert best_point(points(equal, LAST_TWO))[RATE] == 0.1
    trials = table(config, record(0.1, [], state="diverged"), record(0.3, [], state="failed"))
    with pytest.raises(
        ValueError, match=r"no trial .* was trained to the end \(1 diverged, 1 failed\); add lower rates to"
    ):
        best_point(points(trials, LAST_TWO))


@pytest.mark.parametrize(("best", "side"), [(0.1, -1), (0.2, 0), (0.4, 1)])
def test_at_edge(best, side):
    assert at_edge([0.2, 0.1, 0.4], best) == side
    assert at_edge([best], best) == 0


def test_the_choice_names_its_values_and_reason(config):
    trials = table(
        config,
        record(0.001, [0.1, 0.3]),
        record(0.01, [0.4, 0.6]),
        record(0.1, [0.2], state="diverged"),
        record(0.01, [0.4, 0.5], step="weight_decay", decay=0.1),
    )
    best = best_hyperparameters(trials, config, LAST_TWO, data_hash="abc")
    assert best["values"] == {RATE: 0.01, DECAY: 0.01}
    assert (best["val_dice"], best["epochs"], best["data_hash"]) == (pytest.approx(0.5), 2, "abc")
    assert best["reason"] == (
        "highest validation Dice (0.500, mean of the last 2 of 2 epochs) of 4 points; the next best is 0.050 behind; "
        "the next higher learning rate diverged; the weight decay is at the lower edge of the grid, so a value "
        "beyond it may be better; 1 diverged"
    )


def test_the_spread_of_repeats_is_reported(config):
    trials = table(config, record(0.1, [0.5]), record(0.1, [0.7], repeat=1))
    best = best_hyperparameters(trials, config, LAST_TWO, data_hash="abc")
    assert best["reason"].startswith(
        "highest validation Dice (0.600 after 1 epoch and of 2 repeats, 0.500 to 0.700) of 1 point"
    )
    by_loss = GridSettings(choose_by="loss", average_last_validations=1)
    assert (
        "lowest validation loss (0.400 after 1 epoch and of 2 repeats, 0.300 to 0.500)"
        in (best_hyperparameters(trials, config, by_loss, data_hash="abc")["reason"])
    )


def test_lists_null_and_partly_searched_settings_survive_the_table(config, tmp_path):
    trials = table(
        config,
        record(0.1, [0.5]),
        record(0.1, [0.7], step="tpe", **{"input.size": [64, 96], "model.encoder_weights": None, "fit.ema": 0.5}),
    )
    trials.to_parquet(tmp_path / "trials.parquet")
    best = best_hyperparameters(pd.read_parquet(tmp_path / "trials.parquet"), config, LAST_TWO, data_hash="abc")
    assert best["values"] == {
        RATE: 0.1, DECAY: 0.01, "input.size": [64, 96], "model.encoder_weights": None, "fit.ema": 0.5
    }  # fmt: skip
    assert trials.loc[0, ["input.size", "fit.ema"]].tolist() == ["[32, 64]", 0.0]  # the config's
