import logging

import pytest

from seg_pipeline.segmentation.settings.training import InputSettings, LossSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig, base_hash, with_search


def test_a_recipe_survives_a_checkpoint(config):
    full = config.changed({"loss.terms": {"bce": 1.0}, "input.statistics": ((0.0, 9.0), (0.5,), (0.25,))})
    saved = full.to_dict()
    assert saved["input"]["statistics"] == [[0.0, 9.0], [0.5], [0.25]]  # plain lists
    assert TrainingConfig.from_dict(saved) == full


def test_a_checkpoint_of_another_version_is_refused(config):
    saved = config.to_dict()
    with pytest.raises(
        ValueError, match=r"settings come from another version of this project \(without seed\); train again"
    ):
        TrainingConfig.from_dict({name: value for name, value in saved.items() if name != "seed"})
    with pytest.raises(ValueError, match=r"from another version of this project \(unknown: input.sise\)"):
        TrainingConfig.from_dict(saved | {"input": saved["input"] | {"sise": 3}})


@pytest.mark.parametrize(
    ("group", "values", "text"),
    [
        ("fit", {"epochs": "3"}, "`fit.epochs` is '3', expected a whole number, at least 1"),
        ("fit", {"epochs": True}, "`fit.epochs` is True, expected a whole number, at least 1"),
        ("fit", {"epochs": 0}, "`fit.epochs` is 0, expected a whole number, at least 1"),
        ("fit", {"max_minutes": float("nan")}, "`fit.max_minutes` is nan, expected a number, more than 0 or null"),
        ("input", {"size": [64]}, r"`input.size` is \[64\], expected a list of 2 values"),
        ("input", {"size": [64, 2**31]}, r"`input`: `size` must be multiples of 32 from 32 to 8192 .* 2147483648"),
        ("input", {"reading": None}, "`input.reading` is None, expected settings by name"),
        ("input", {"reading": {"bands": [0]}}, "without input.reading.max_pixels"),
        ("input", {"by_source": {"a": {"normalisation": "x", "window": None}}}, "`input.by_source.a.normalisation` is"),
        (
            "sampling",
            {"batch_size": "many"},
            "`sampling.batch_size` is 'many', expected a whole number, at least 1 or a",
        ),
        ("loss", {"terms": {"dice": -1.0}}, "`loss.terms` is {'dice': -1.0}, expected values by name or null"),
        ("optimizer", {"name": ["sgd"]}, r"`optimizer.name` is \['sgd'\], expected adamw or sgd"),
    ],
)
def test_a_setting_of_another_type_or_outside_its_bounds_is_named(config, group, values, text):
    saved = config.to_dict()
    with pytest.raises(ValueError, match=text):
        TrainingConfig.from_dict(saved | {group: saved[group] | values})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"classes": []}, r"`classes` must be different names, found \[\]"),
        ({"classes": ["a", "a"]}, "`classes` must be different names"),
        ({"classes": "box"}, "`classes` is 'box', expected a list"),
        ({"task": "evil"}, "`task` is 'evil', expected multilabel or multiclass"),
        ({"background": True}, "`background` is for multiclass tasks"),
        ({"input": 3}, "`input` is 3, expected settings by name"),
    ],
)
def test_a_task_or_classes_that_cannot_be_are_refused(config, values, text):
    with pytest.raises(ValueError, match=text):
        TrainingConfig.from_dict(config.to_dict() | values)


def test_values_change_by_dotted_name(config):
    other = config.changed({"optimizer.learning_rate": 0.5, "seed": 9})
    assert (other.optimizer.learning_rate, other.seed) == (0.5, 9)
    assert config.differences(other) == ["optimizer.learning_rate: 0.003, there 0.5", "seed: 5, there 9"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"size": (64, 100)}, r"must be multiples of 32 .* found \(64, 100\)"),
        ({"window": (1, 99)}, "`window` has no meaning for `normalisation: encoder`; leave it null"),
        ({"normalisation": "fixed"}, "`normalisation: fixed` needs `window`"),
        ({"normalisation": "percentile", "window": (99, 1)}, "two rising values, found"),
        ({"normalisation": "training", "window": (1, 101)}, "two rising percentiles within 0 to 100"),
        ({"channels": (-1, 1)}, r"`channels` must contain 0, the image itself, found \[-1, 1\]"),
        ({"zoom": 2.0}, "`scale`, `zoom` and `foreground` are for `resize_mode: crop`, found `resize_mode: resize`"),
    ],
)
def test_inputs_that_contradict_themselves_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        InputSettings(**values)


@pytest.mark.parametrize(
    ("task", "loss", "text"),
    [
        (
            "multilabel",
            LossSettings(terms={"ce": 1.0}),
            "`loss.terms` of a multilabel task must not be empty or contain ce",
        ),
        ("multiclass", LossSettings(terms={}), "`loss.terms` of a multiclass task must not be empty or contain bce"),
        ("multiclass", LossSettings(class_weights=(1.0, 2.0)), "3 numbers, the background's first, found 2"),
    ],
)
def test_a_loss_must_fit_the_task(task, loss, text):
    with pytest.raises(ValueError, match=text):
        TrainingConfig(task=task, classes=("a", "b"), background=task == "multiclass", loss=loss)


@pytest.mark.parametrize(("channels", "number"), [("rgb", 3), ("grey", 1), ((-2, 0), 2)])
def test_channels_of_the_input(channels, number):
    assert InputSettings(channels=channels).num_channels == number


FOUND = {"optimizer.learning_rate": 0.1, "input.size": [64, 96]}


def found(config, **changes):
    about = {"values": FOUND, "val_dice": 0.5, "epochs": 3, "reason": "it won", "data_hash": "here"}
    return about | {"base": base_hash(config, FOUND)} | changes


def test_what_a_search_found_goes_into_the_recipe_and_is_named(config, caplog):
    with caplog.at_level(logging.INFO):
        changed, taken = with_search(config, found(config), "here")
    assert (changed.optimizer.learning_rate, changed.input.size) == (0.1, (64, 96))
    assert taken == {"values": FOUND, "val_dice": 0.5, "epochs": 3, "reason": "it won"}
    assert "from the search: optimizer.learning_rate 0.1, input.size [64, 96] (it won)" in caplog.text
    assert TrainingConfig.from_dict({**changed.to_dict(), "from_search": taken}) == changed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (None, "no search result is used"),
        ({"data_hash": "elsewhere"}, "the search used other data"),
        ({"base": "other"}, "the search used other settings; to search with these: `kedro run --pipeline hparam"),
    ],
)
def test_a_search_on_other_data_or_settings_does_not_count(config, changes, says, caplog):
    given = None if changes is None else found(config, **changes)
    with caplog.at_level(logging.INFO):
        assert with_search(config, given, "here") == (config, {})
    assert says in caplog.text


def test_length_and_seed_are_not_among_the_settings_that_a_search_is_for(config):
    names = ("optimizer.learning_rate", "loss.terms")
    same = config.changed({"fit.epochs": 99, "fit.max_minutes": 3, "seed": 8, "optimizer.learning_rate": 0.5})
    same = same.changed({"loss.terms": {"dice": 1.0}})
    assert base_hash(config, names) == base_hash(same, names)
    assert base_hash(config, names) != base_hash(config.changed({"fit.ema": 0.5}), names)
