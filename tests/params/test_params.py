import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from seg_pipeline.params import DatasetParams, EdaParams, ExportNnunetParams, Parameters, TrainingParams
from seg_pipeline.params.data import AnnotationParams, SharesParams, SplitParams
from seg_pipeline.params.training import make_training_config
from seg_pipeline.segmentation.settings.figures import FigureSettings
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.segmentation.settings.training import ScoreSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig


def test_new_images_are_read_as_those_of_the_data_set():
    dataset = DatasetParams(task="multilabel", classes=["a"], reading={"bands": [4, 3, 2], "orientation": "keep"})
    config = make_training_config(dataset, ScoreSettings(), TrainingParams(), seed=0)
    assert config.input.reading == ReadSettings(bands=(4, 3, 2), orientation="keep")
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("given", "size"), [(256, (256, 256)), ("96x128", (96, 128)), ("96 x 128", (96, 128)), ([64, 32], (64, 32))]
)
def test_one_number_is_a_square_input(given, size):
    assert TrainingParams(input={"size": given}).input.size == size


@pytest.mark.parametrize("given", ["big", [96], "96x", True, None])
def test_a_size_that_is_none_shows_the_forms_that_work(given):
    with pytest.raises(ValidationError, match=r"`--params training.input.size=96x128`, or `training.input.size=128` f"):
        TrainingParams(input={"size": given})


def test_a_size_between_the_multiples_names_the_nearest():
    with pytest.raises(ValidationError, match=r"found \(100, 10\); the nearest is `training.input.size=96x32`"):
        TrainingParams(input={"size": [100, 10]})


def test_a_bare_class_name_is_its_own_value():
    params = DatasetParams(task="multilabel", classes=["stomach", {"name": "liver", "value": 3}])
    assert params.names == ["stomach", "liver"]
    assert params.values == {"stomach": "stomach", "liver": "3"}


def test_a_colour_is_a_list_or_hexadecimal():
    params = DatasetParams(task="multilabel", classes=[{"name": "a", "value": [128, 0, 255]}, "b"])
    assert params.values == {"a": "#8000ff", "b": "b"}
    given = AnnotationParams(mask_format="indexed", background_values=[[0, 0, 0], "#FFffFF"], ignore_values=[7])
    assert given.background_values == ["#000000", "#ffffff"]
    assert given.ignore_values == [7]


@pytest.mark.parametrize(
    ("model", "values", "text"),
    [
        (DatasetParams, {"task": "multilabel", "classes": ["a", "a"]}, r"class names must be unique, found \['a'\]"),
        (DatasetParams, {"task": "multiclass", "classes": []}, "at least 1 item"),
        (
            DatasetParams,
            {"task": "multilabel", "classes": ["a"], "unlabelled_pixels": "ignore"},
            "needs `task: multiclass`",
        ),
        (
            DatasetParams,
            {"task": "multiclass", "classes": ["a", "b"], "objects": True},
            "`objects: true` needs `task: multilabel`",
        ),
        (DatasetParams, {"task": "panoptic", "classes": ["a"]}, "'multilabel' or 'multiclass'"),
        (AnnotationParams, {"mask_format": "rle"}, "`mask_format: rle` needs `rle_order`"),
        (DatasetParams, {"task": "multilabel", "classes": [{"name": "a", "value": "#12"}]}, "six hexadecimal digits"),
        (DatasetParams, {"task": "multilabel", "classes": [{"name": "a", "value": [1, 2]}]}, "each from 0 to 255"),
        (DatasetParams, {"task": "multilabel", "classes": [{"name": "a", "value": [1, 2, 256]}]}, "from 0 to 255"),
        (
            AnnotationParams,
            {"mask_format": "indexed", "images_without_row": "empty"},
            "cannot be used with `mask_format: indexed`",
        ),
        (
            AnnotationParams,
            {"mask_format": "indexed", "columns": {"mask": ["a", "b"]}},
            "`mask_format: indexed` needs one mask column with a mask in each row",
        ),
        (ExportNnunetParams, {"name": "a b"}, "should match pattern"),
        (SharesParams, {"train": 0.7, "val": 0.2, "test": 0.2}, r"must add up to 1, found 1\.1"),
        (TrainingParams, {"input": {"size": [100, 128]}}, r"must be multiples of 32 .* found \(100, 128\)"),
        (TrainingParams, {"input": {"reading": {"bands": [1]}}}, "`input.reading` is a copy of `dataset.reading`"),
        (TrainingParams, {"optimizer": {"learning_rate": 0}}, "greater than 0"),
        (TrainingParams, {"sampling": {"batch_size": "most"}}, "'auto'"),
        (TrainingParams, {"loss": {"terms": {"iou": 1.0}}}, "'bce', 'ce', 'dice'"),
        (EdaParams, {"day_pattern": r"day(\d+)"}, r"needs a group named day, as in `day\(\?P<day>"),
        (EdaParams, {"day_pattern": "(?P<day>"}, "is not a valid regular expression: missing"),
        (EdaParams, {"animation": {"max_side": 10}}, "greater than or equal to 64"),
        (
            FigureSettings,
            {"rc": {"font.famly": "serif"}},
            "`rc` holds a setting that Matplotlib does not accept: .*font.famly",
        ),
        (
            FigureSettings,
            {"rc": {"lines.linewidth": "thick"}},
            "`rc` holds a setting that Matplotlib does not accept: .*thick",
        ),
        (SplitParams, {"groupped": True}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_values_are_refused(model, values, text):
    with pytest.raises(ValueError, match=text):  # pydantic's ValidationError is one
        model(**values)


def test_parameters_cannot_be_changed_and_closed_to_unknown_keys():
    with pytest.raises(ValidationError, match="frozen"):
        SharesParams().train = 0.5
    with pytest.raises(ValidationError, match="trainig"):
        Parameters.model_validate({"trainig": {}})


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([{"name": "a", "value": [220, 0, 0]}, {"name": "b", "value": "#00C800"}], ["#dc0000", "#00c800"]),
        ([{"name": "a", "value": 1, "colour": [1, 2, 99]}, {"name": "b", "value": "#00c800"}], ["#010263", "#00c800"]),
        ([{"name": "a", "value": [220, 0, 0]}, {"name": "b", "value": 2}], []),  # b has none
        ([{"name": "a", "value": [9, 0, 0]}, {"name": "b", "value": [1, 0, 0]}], []),  # too alike to tell apart
        (["a", "b"], []),
    ],
)
def test_classes_declare_their_colours_in_figures(classes, expected):
    assert DatasetParams(task="multiclass", classes=classes).colours == expected


def test_a_colour_of_figures_is_six_digits():
    with pytest.raises(ValidationError, match="String should match pattern"):
        DatasetParams(task="multiclass", classes=[{"name": "a", "value": 1, "colour": "red"}])
    with pytest.raises(ValueError, match="a colour must be like #8000ff, found 'red'"):
        FigureSettings(class_colours=["red"])


def of_base():
    given = {}
    for path in (Path(__file__).parents[2] / "conf/base").glob("parameters*.yml"):
        given |= yaml.safe_load(path.read_text())
    given["reporting"]["phantom"] = None  # from the globals, which are not read here
    return given


def test_objects_need_a_mask_each():
    given = of_base()
    given["dataset"] = {"task": "multilabel", "classes": ["cell"], "objects": True}
    annotations = given["data_processing"]["annotations"]
    annotations["multiple_masks"] = "merge"
    with pytest.raises(
        ValidationError, match=r"set `data_processing.annotations.multiple_masks` to instances, found m"
    ):
        Parameters.model_validate(given)
    annotations["multiple_masks"] = "instances"
    assert Parameters.model_validate(given).dataset.objects


def test_an_indexed_mask_holds_numbers_or_colours_but_no_names():
    given = of_base()
    indexed = {"mask_format": "indexed", "background_values": [0]}
    for value, fits in ((3, True), ("#ff0000", False), ("cat", False)):
        dataset = {"task": "multiclass", "classes": [{"name": "cat", "value": value}]}
        both = {**given, "dataset": dataset, "data_processing": {"annotations": indexed}}
        if fits:
            assert Parameters.model_validate(both).dataset.values == {"cat": "3"}
        else:
            with pytest.raises(ValidationError, match=f"every one a colour .*; found {value}, 0"):
                Parameters.model_validate(both)
