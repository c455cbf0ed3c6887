import logging

import pytest

from seg_pipeline.segmentation.recipe import InputSettings, LossSettings, Recipe, with_search


def test_a_recipe_survives_a_checkpoint(recipe):
    full = recipe.changed({"loss.terms": {"bce": 1.0}, "input.statistics": ((0.0, 9.0), (0.5,), (0.25,))})
    saved = full.to_dict()
    assert saved["input"]["statistics"] == [[0.0, 9.0], [0.5], [0.25]]  # plain lists
    assert Recipe.from_dict(saved) == full


def test_a_checkpoint_of_another_version_is_refused(recipe):
    saved = recipe.to_dict()
    with pytest.raises(
        ValueError, match=r"settings are of another version of this project \(without seed\); train anew"
    ):
        Recipe.from_dict({name: value for name, value in saved.items() if name != "seed"})
    with pytest.raises(ValueError, match=r"of another version .*unexpected keyword argument 'sise'"):
        Recipe.from_dict(saved | {"input": saved["input"] | {"sise": 3}})


def test_values_change_by_dotted_name(recipe):
    other = recipe.changed({"optimizer.learning_rate": 0.5, "seed": 9})
    assert (other.optimizer.learning_rate, other.seed) == (0.5, 9)
    assert recipe.differences(other) == ["optimizer.learning_rate: 0.003, there 0.5", "seed: 5, there 9"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"size": (64, 100)}, r"must be multiples of 32 .* found \(64, 100\)"),
        ({"window": (1, 99)}, "`window` has no meaning for `normalisation: encoder`; leave it null"),
        ({"normalisation": "fixed"}, "`normalisation: fixed` needs `window`"),
        ({"normalisation": "percentile", "window": (99, 1)}, "two rising values, found"),
        ({"normalisation": "training", "window": (1, 101)}, "two rising percentiles within 0 to 100"),
        ({"channels": (-1, 1)}, r"`channels` must hold 0, the image itself, found \[-1, 1\]"),
        ({"zoom": 2.0}, "`scale`, `zoom` and `foreground` are for `fit: crop`, found `fit: resize`"),
    ],
)
def test_inputs_that_contradict_themselves_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        InputSettings(**values)


@pytest.mark.parametrize(
    ("task", "loss", "text"),
    [
        ("multilabel", LossSettings(terms={"ce": 1.0}), "`loss.terms` of a multilabel task must be some, without ce"),
        ("multiclass", LossSettings(terms={}), "`loss.terms` of a multiclass task must be some, without bce"),
        ("multiclass", LossSettings(class_weights=(1.0, 2.0)), "3 numbers, the background's first, found 2"),
    ],
)
def test_a_loss_must_fit_the_task(task, loss, text):
    with pytest.raises(ValueError, match=text):
        Recipe(task=task, classes=("a", "b"), background=task == "multiclass", loss=loss)


@pytest.mark.parametrize(("channels", "number"), [("rgb", 3), ("grey", 1), ((-2, 0), 2)])
def test_channels_of_the_input(channels, number):
    assert InputSettings(channels=channels).num_channels == number


@pytest.mark.parametrize(
    ("found", "rate", "says"),
    [
        (None, 0.003, "learning rate 0.003, from the parameters"),
        ({"learning_rate": 0.1, "reason": "it won", "data_hash": "here"}, 0.1, "0.1, from the search: it won"),
        ({"learning_rate": 0.1, "reason": "it won", "data_hash": "elsewhere"}, 0.003, "the search was on other data"),
    ],
)
def test_the_searchs_rate_counts_on_its_own_data_only(recipe, found, rate, says, caplog):
    with caplog.at_level(logging.INFO):
        assert with_search(recipe, found, "here").optimizer.learning_rate == rate
    assert says in caplog.text
