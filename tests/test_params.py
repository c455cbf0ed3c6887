import pytest
from pydantic import ValidationError

from seg_pipeline.params import (
    AnnotationParams,
    DatasetParams,
    EdaParams,
    FigureParams,
    Parameters,
    SharesParams,
    SplitParams,
    TrainingParams,
)


def test_a_bare_class_name_is_its_own_value():
    params = DatasetParams(task="multilabel", classes=["stomach", {"name": "liver", "value": 3}])
    assert params.names == ["stomach", "liver"]
    assert params.values == {"stomach": "stomach", "liver": "3"}


@pytest.mark.parametrize(
    ("model", "values", "text"),
    [
        (DatasetParams, {"task": "multilabel", "classes": ["a", "a"]}, r"class names must differ .* found \['a'\]"),
        (DatasetParams, {"task": "multiclass", "classes": []}, "at least 1 item"),
        (DatasetParams, {"task": "multilabel", "classes": ["a"], "unlabelled": "ignore"}, "needs `task: multiclass`"),
        (DatasetParams, {"task": "panoptic", "classes": ["a"]}, "'multilabel' or 'multiclass'"),
        (AnnotationParams, {"form": "rle"}, "`rle_order` must be declared for `form: rle`"),
        (SharesParams, {"train": 0.7, "val": 0.2, "test": 0.2}, r"must add up to 1, found 1\.1"),
        (TrainingParams, {"input": {"size": [100, 128]}}, r"must be multiples of 32 .* found \(100, 128\)"),
        (TrainingParams, {"optimizer": {"learning_rate": 0}}, "greater than 0"),
        (TrainingParams, {"sampling": {"batch_size": "most"}}, "'auto'"),
        (TrainingParams, {"loss": {"terms": {"iou": 1.0}}}, "'bce', 'ce', 'dice'"),
        (EdaParams, {"day_pattern": r"day(\d+)"}, r"needs a group named day, as in `day\(\?P<day>"),
        (EdaParams, {"day_pattern": "(?P<day>"}, "is no regular expression: missing"),
        (EdaParams, {"animation": {"max_side": 10}}, "greater than or equal to 64"),
        (FigureParams, {"rc": {"font.famly": "serif"}}, "`rc` is not for Matplotlib: .*font.famly"),
        (FigureParams, {"rc": {"lines.linewidth": "thick"}}, "`rc` is not for Matplotlib: .*thick"),
        (SplitParams, {"groupped": True}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_values_are_refused(model, values, text):
    with pytest.raises(ValidationError, match=text):
        model(**values)


def test_parameters_cannot_be_changed_and_closed_to_unknown_keys():
    with pytest.raises(ValidationError, match="frozen"):
        SharesParams().train = 0.5
    with pytest.raises(ValidationError, match="trainig"):
        Parameters.model_validate({"trainig": {}})
