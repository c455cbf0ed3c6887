"""A checkpoint may come from anywhere: what is wrong with it is named before anything is built from it."""

import copy

import pytest
import torch

from seg_pipeline.segmentation.prediction.predict_images import load_models
from seg_pipeline.segmentation.settings.checkpoint_content import check_resumable, model_configs
from seg_pipeline.segmentation.training.state import restore, start

CPU = torch.device("cpu")


def changed(checkpoint, path, value):
    """A copy with one value replaced, by its dotted path; `...` removes it."""
    content = {
        **checkpoint,
        "models": [{**one, "config": copy.deepcopy(one["config"])} for one in checkpoint["models"]],
    }
    *parents, last = [int(one) if one.isdecimal() else one for one in path.split(".")]
    holder = content
    for one in parents:
        holder = holder[one]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("models", ..., "checkpoint: `models` is missing; expected what `kedro run --pipeline training` saves"),
        ("models", [], "checkpoint: `models` is empty, expected at least one trained model"),
        ("models", "ab", "checkpoint: `models` is 'ab', expected list"),
        ("models.0", None, "checkpoint: `models.0` is None, expected a dict"),
        ("models.0.row", 3, "checkpoint: `models.0.row` is 3, expected dict"),
        ("temperatures", (1.5,), r"`temperatures` is \(1.5,\), expected None or a tuple of 2 numbers above 0, one per"),
        ("temperatures", (1.5, 0.0), r"`temperatures` is \(1.5, 0.0\), expected"),
        ("temperatures", "ab", "`temperatures` is 'ab', expected"),
        ("models.0.config", ..., "checkpoint: `models.0.config` is missing"),
        ("models.0.model", [1], r"checkpoint: `models.0.model` is \[1\], expected dict"),
        ("models.0.config.task", "evil", "checkpoint: `models.0.config`: .*`task` is 'evil', expected multilabel or"),
        ("models.0.config.classes", "abc", "`models.0.config`: .*`classes` is 'abc', expected a list"),
        ("models.0.config.input.size", [1, 2, 3], r"`input.size` is \[1, 2, 3\], expected a list of 2 values"),
        ("models.0.config.model.decoder_channels", ["8"], "`model.decoder_channels` is .* expected a list or null"),
    ],
)
def test_the_field_that_is_wrong_is_named(checkpoint, path, value, text):
    with pytest.raises(ValueError, match=text):
        model_configs(changed(checkpoint, path, value))


def test_something_else_is_no_checkpoint():
    with pytest.raises(
        ValueError, match=r"checkpoint: holds \[1\], expected a dict as `kedro run --pipeline training`"
    ):
        model_configs([1])


def test_models_of_an_ensemble_share_their_classes(checkpoint):
    two = {**checkpoint, "models": checkpoint["models"] * 2}
    assert len(model_configs(two)) == 2
    other = changed(two, "models.1.config.classes", ["box", "ring"])
    with pytest.raises(ValueError, match=r"`models.1.config.classes` is \('box', 'ring'\), but "):
        model_configs(other)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"mean": ...}, "`models.0.model` does not fit `models.0.config`: 'mean' is missing"),
        ({"extra": torch.zeros(2)}, "'extra' is unknown"),
        ({"mean": 3}, r"mean is 3, expected torch.float32 of \(1, 3, 1, 1\)"),
        ({"mean": torch.zeros(1, 2, 1, 1)}, r"mean is torch.float32 of \(1, 2, 1, 1\), expected torch.float32 of"),
        ({"mean": torch.zeros(1, 3, 1, 1, dtype=torch.float64)}, "mean is torch.float64"),
    ],
)
def test_weights_that_do_not_fit_are_named(checkpoint, values, text):
    weights = {name: one for name, one in {**checkpoint["models"][0]["model"], **values}.items() if one is not ...}
    with pytest.raises(ValueError, match=text):
        load_models(changed(checkpoint, "models.0.model", weights), CPU)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("model.encoder", "tu-nothing", "does not fit `models.0.config`: .*tu-nothing"),
        ("model.decoder_channels", [2**40, 8, 8, 8], "does not fit `models.0.config`"),  # takes no memory
    ],
)
def test_a_network_that_cannot_be_built_is_named(checkpoint, path, value, text):
    with pytest.raises(ValueError, match=text):
        load_models(changed(checkpoint, f"models.0.config.{path}", value), CPU)


@pytest.fixture(scope="module")
def last(config):
    state = start(config, "d", CPU).to_dict()
    about = {"config": config.to_dict(), "data_hash": "d", "folds": None, "models": [], "rows": []}
    return {**about, "current": state}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"current": None}, "`current` is None, expected dict"),
        ({"folds": "3"}, "`folds` is '3', expected int or None"),
        ({"rows": [3]}, "`rows` must hold one dict per epoch"),
        ({"config": {}}, "checkpoint: `config`: .*without background, classes"),
        ({"step": True}, "`current.step` is True, expected int"),
        ({"optimizer": ...}, "`current.optimizer` is missing"),
        ({"history": [None]}, "`current.history` must hold one dict per epoch"),
    ],
)
def test_a_run_to_resume_is_checked(last, values, text):
    assert check_resumable(last).classes == ("box", "disc")
    (name, value) = next(iter(values.items()))
    inner = {key: one for key, one in {**last["current"], name: value}.items() if one is not ...}
    content = {**last, name: value} if name in last else {**last, "current": inner}
    with pytest.raises(ValueError, match=text):
        check_resumable(content)


def test_a_part_that_does_not_fit_the_run_is_named(last):
    with pytest.raises(ValueError, match=r"checkpoint: `current.optimizer` does not fit `current.config`"):
        restore({**last["current"], "optimizer": {"state": {}, "param_groups": []}}, CPU)
