"""The search with a fake training, so that any outcome can be produced."""

import math

import pytest

from seg_pipeline.segmentation.search import best_hyperparameters, search, trials
from seg_pipeline.segmentation.search.grid import log_spaced, values_beyond_edge
from seg_pipeline.segmentation.settings.search import GridSettings, PoolSettings, Range, TpeSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.processes import OutOfMemory, TrainingFailed

RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"
COMPUTE = ComputeSettings(device="cpu", cache="none")


class Actor:
    """Trains in no time: Dice is best at rate 0.01 and decay 0.01, and 0.001 higher for each 1000 of the seed."""

    def __init__(self):
        self.trained = []
        self.best_rate = 0.01

    def __call__(self, _manifest, config, *_):
        optimizer, history = config.optimizer, []
        self.trained.append((optimizer.learning_rate, optimizer.weight_decay, config.seed, config.model.encoder))
        distance = abs(math.log10(optimizer.learning_rate / self.best_rate))
        distance += 0.1 * abs(math.log10(optimizer.weight_decay / 0.01)) if optimizer.weight_decay else 1
        distance += 0.3 * (config.model.encoder == "resnet34")
        for epoch in range(1, config.fit.epochs + 1):
            if optimizer.learning_rate > 1 and epoch > 1:
                raise TrainingFailed("the mean train loss is nan")
            if config.model.encoder == "too_large":
                raise OutOfMemory("memory ran out")
            dice = 0.2 * epoch - 0.05 * distance + 1e-6 * config.seed
            row = {"epoch": epoch, "learning_rate": 0.0, "train_loss": 1 - dice, "val_loss": 1 - dice, "val_dice": dice}
            history.append(row | {"seconds": 30.0})
            yield {"history": list(history), "finished": epoch == config.fit.epochs}


@pytest.fixture
def actor(monkeypatch):
    actor = Actor()
    monkeypatch.setattr(trials, "train_one_model", actor)
    return actor


@pytest.fixture
def run(scans, config, tmp_path, actor):
    def run(grid, tpe=None, folder="search"):
        further = {"tpe": tpe} if tpe else {}
        return search(scans, config, COMPUTE, folder=tmp_path / folder, grid=grid, **further)

    return run


def small(**changes):
    return GridSettings(**{"learning_rates": (0.001, 0.01, 0.1), "weight_decays": (), "epochs": 2, **changes})


def test_a_grid_of_rates_then_decays_at_the_best_rate(run, actor, config):
    trials = run(small(weight_decays=(0.001, 0.01, 0.1)))
    assert [one[:2] for one in actor.trained] == [
        (0.001, 0.01), (0.01, 0.01), (0.1, 0.01), (0.01, 0.001), (0.01, 0.1)
    ]  # fmt: skip
    assert trials.groupby("trial")["step"].first().tolist() == ["learning_rate"] * 3 + ["weight_decay"] * 2
    assert trials["epoch"].tolist() == [1, 2] * 5
    assert set(trials["state"]) == {"complete"}
    best = best_hyperparameters(trials, config, small(), data_hash="x")
    assert best["values"] == {RATE: 0.01, DECAY: 0.01}
    assert "edge" not in best["reason"]


def test_a_second_search_on_the_same_study_trains_nothing(run, actor):
    first = run(small())
    actor.trained.clear()
    assert run(small()).equals(first)
    assert actor.trained == []
    run(small(learning_rates=(0.001, 0.01, 0.1, 0.03)))
    assert [one[0] for one in actor.trained] == [0.03]
    run(small(epochs=3))
    assert len(actor.trained) == 4  # longer trials are others


@pytest.mark.parametrize(("best", "more"), [(1.0, [1.0]), (0.0001, [0.0001]), (0.01, [])])
def test_the_grid_is_extended_once_beyond_the_edge_with_the_best_value(run, actor, config, best, more):
    actor.best_rate = best / 10 if best == 0.0001 else best
    trials = run(small())
    assert [one[0] for one in actor.trained] == [0.001, 0.01, 0.1, *more]
    if more:
        reason = best_hyperparameters(trials, config, small(), data_hash="x")["reason"]
        assert "the learning rate is at the" in reason


def test_without_extension_the_edge_is_only_reported(run, actor, config):
    actor.best_rate = 1.0
    trials = run(small(extend=False))
    assert len(actor.trained) == 3
    assert "upper edge" in best_hyperparameters(trials, config, small(), data_hash="x")["reason"]


@pytest.mark.parametrize(
    ("values", "side", "more"),
    [
        ([1e-3, 1e-2, 1e-1], 1, [1.0]),
        ([1, 2, 4, 8], -1, [0.5, 0.25]),
        ([1, 2, 4, 8], 1, []),  # rates are below 10
        ([0.0, 0.1, 0.2], -1, []),  # nothing is below 0
        ([0.1, 0.2], 0, []),
    ],
)
def test_beyond(values, side, more):
    assert values_beyond_edge(values, side) == more


def test_log_spaced():
    assert log_spaced(2e-3, 3, 3) == [6.7e-4, 2e-3, 6e-3]
    assert log_spaced(1.0, 10, 5) == [0.01, 0.1, 1.0]
    assert log_spaced(1.0, 2, 4) == [0.5, 1.0, 2.0, 4.0]


def test_a_diverged_rate_is_marked_and_not_tried_again(run, actor):
    trials = run(small(learning_rates=(0.001, 0.01, 5.0)))
    diverged = trials[trials[RATE] == 5.0]
    assert diverged["state"].tolist() == ["diverged"] * 2
    assert diverged["val_dice"].isna().tolist() == [False, True]
    assert diverged["reason"].iloc[0] == "the mean train loss is nan"
    actor.trained.clear()
    run(small(learning_rates=(0.001, 0.01, 5.0)))
    assert actor.trained == []


def test_when_every_rate_diverges_the_search_says_so(run):
    with pytest.raises(ValueError, match=r"no trial of the search was trained to the end \(2 diverged\)"):
        run(small(learning_rates=(2.0, 5.0)))


def test_repeats_use_different_seeds(run, actor):
    trials = run(small(repeats=2))
    assert {one[2] for one in actor.trained} == {5, 1005}
    assert trials.groupby("trial")["repeat"].first().tolist() == [0, 1] * 3


def test_rates_and_decays_crossed(run):
    trials = run(small(weight_decays=(0.01, 0.1), cross=True, extend=False))
    assert len(trials.groupby([RATE, DECAY])) == 6
    assert trials["trial"].nunique() == 6


def test_the_time_limit_skips_trials_and_reports_their_number(run, actor, caplog):
    trials = run(small(max_minutes=1.5))  # each takes a minute
    assert trials["trial"].nunique() == 2
    assert "max_minutes reached: 1 grid trials were not started" in caplog.text


SPACE = {"model.encoder": ["resnet18", "resnet34"], RATE: Range(low=1e-3, high=1e-1, log=True)}


def test_tpe_starts_with_the_best_of_the_grid_and_improves_on_it(run, actor):
    trials = run(small(weight_decays=()), TpeSettings(space=SPACE, trials=8, startup_trials=3, pruner="none"))
    tpe = trials[trials["step"] == "tpe"]
    assert tpe["trial"].nunique() == 8
    assert set(tpe["model.encoder"]) <= {"resnet18", "resnet34"}
    assert tpe[RATE].between(1e-3, 1e-1).all()
    again = run(small(weight_decays=()), TpeSettings(space=SPACE, trials=8, startup_trials=3, pruner="none"))
    assert again.equals(trials)


def test_tpe_resumes_and_makes_the_same_proposals(run, actor):
    whole = run(small(), TpeSettings(space=SPACE, trials=8, startup_trials=3, pruner="none"))
    run(small(), TpeSettings(space=SPACE, trials=5, startup_trials=3, pruner="none"), folder="other")
    resumed = run(small(), TpeSettings(space=SPACE, trials=8, startup_trials=3, pruner="none"), folder="other")
    assert resumed.equals(whole)


def test_the_median_pruner_ends_bad_trials_early(run, actor):
    tpe = TpeSettings(space=SPACE, trials=12, startup_trials=3, warmup_epochs=1)
    trials = run(small(epochs=4), tpe)
    of_tpe = trials[trials["step"] == "tpe"]
    pruned = of_tpe[of_tpe["state"] == "pruned"]
    assert pruned["trial"].nunique() >= 2
    assert pruned.groupby("trial")["epoch"].max().lt(4).all()
    assert set(trials[trials["step"] == "learning_rate"]["state"]) == {"complete"}  # a grid is never pruned


def test_hyperband_prunes_too(run):
    trials = run(small(epochs=9), TpeSettings(space=SPACE, trials=12, pruner="hyperband"))
    assert "pruned" in set(trials["state"])


def test_a_trial_that_does_not_fit_into_memory_fails_and_the_search_continues(run):
    space = {"model.encoder": ["resnet18", "too_large"]}
    trials = run(small(), TpeSettings(space=space, trials=6, startup_trials=6, pruner="none"))
    failed = trials[trials["model.encoder"] == "too_large"]
    assert set(failed["state"]) == {"failed"}
    assert set(failed["reason"]) == {"memory ran out"}


def test_proposals_that_were_trained_before_are_not_trained_again(run, actor):
    space = {"model.encoder": ["resnet18", "resnet34"]}
    trials = run(small(), TpeSettings(space=space, trials=9, pruner="none"))
    assert trials[trials["step"] == "tpe"]["trial"].nunique() == 2
    assert len(actor.trained) == len(set(actor.trained)) == 5


def test_the_best_proposal_gets_as_many_seeds_as_the_grid(run):
    trials = run(small(repeats=3), TpeSettings(space={"model.encoder": ["resnet18"]}, trials=2, pruner="none"))
    assert trials[trials["step"] == "tpe"]["seed"].unique().tolist() == [5, 1005, 2005]


def test_a_study_can_be_stored_in_a_database(scans, config, tmp_path, actor):
    pool = PoolSettings(storage=f"sqlite:///{tmp_path / 'study.db'}")
    given = {"folder": tmp_path / "search", "grid": small(), "pool": pool}
    first = search(scans, config, COMPUTE, **given)
    actor.trained.clear()
    assert search(scans, config, COMPUTE, **given).equals(first)
    assert actor.trained == []
    assert (tmp_path / "study.db.lock").exists()
