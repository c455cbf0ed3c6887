"""What `hparam_search.tpe.space` may hold is known before the run."""

import pytest

from seg_pipeline.params import HparamSearchParams
from seg_pipeline.params.search import check_space


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ({"model.encodr": ["a"]}, r"there is no setting 'model.encodr'; expected one of the groups model, input"),
        ({"seed": [1, 2]}, "there is no setting 'seed'"),
        ({"sampling.augmentation": ["heavy"]}, "'heavy' is not allowed: Input should be 'none', 'light'"),
        ({"input.size": [[100, 128]]}, "must be multiples of 32"),
        (
            {"optimizer.learning_rate": {"low": 1e-4, "high": 20}},
            "20.0 is not allowed: Input should be less than 10",
        ),
        (
            {"sampling.batch_size": ["auto", 8]},
            r"`hparam_search.tpe.space.sampling.batch_size` must list choices of one",
        ),
    ],
)
def test_impossible_spaces_are_refused(config, space, text):
    params = HparamSearchParams.model_validate({"tpe": {"space": space}})
    with pytest.raises(ValueError, match=text):
        check_space(params.tpe.space, config)


def test_ranges_and_choices_of_any_kind(config):
    space = {
        "model.encoder": ["resnet18", "resnet34"],
        "model.encoder_weights": ["imagenet", None],
        "input.size": [[64, 64], [64, 96]],
        "sampling.batch_size": {"low": 4, "high": 16, "step": 4},
        "optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    params = HparamSearchParams.model_validate({"tpe": {"space": space}})
    check_space(params.tpe.space, config)
    assert params.tpe.space["sampling.batch_size"].whole


@pytest.mark.parametrize(("low", "high", "log"), [(2, 1, False), (0, 1, True)])
def test_impossible_ranges_are_refused(low, high, log):
    with pytest.raises(ValueError, match="a range "):
        HparamSearchParams.model_validate({"tpe": {"space": {"fit.ema": {"low": low, "high": high, "log": log}}}})
