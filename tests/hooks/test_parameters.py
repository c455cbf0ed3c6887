from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import pytest
from annotated_types import Ge
from kedro.config import OmegaConfigLoader
from pydantic import BaseModel, Field, model_validator

from seg_pipeline import params as seg_params
from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.parameters import ParameterHooks, _all_paths, check_parameters
from seg_pipeline.params.renamed import RENAMED


class Closed(BaseModel, extra="forbid", frozen=True):
    pass


class ClassOf(Closed):
    name: str = Field(min_length=1)
    class_: str = Field(default="", alias="class")


class Optimizer(Closed):
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_epochs: int = 0


class Training(Closed):
    optimizer: Optimizer = Optimizer()
    precision: Literal["float32", "bfloat16"] = "float32"
    size: int | None = None

    @model_validator(mode="after")
    def _size(self) -> Training:
        if self.size == 13:
            raise ValueError("`size` must not be 13")
        return self


@dataclass(frozen=True)
class Fit:
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: Annotated[int, Ge(1)] = 3


class Parameters(Closed):
    seed: int
    fit: Fit = Fit()
    training: Training = Training()
    classes: list[ClassOf] = []
    raw_root: str | None = None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"sed": 1}, "sed: unknown parameter (found 1); did you mean `seed`?"),
        (
            {"training": {"optimizer": {"lerning_rate": 0.1}}},
            "training.optimizer.lerning_rate: unknown parameter (found 0.1); "
            "did you mean `training.optimizer.learning_rate`?",
        ),
        ({"fit": {"epoch": 4}}, "fit.epoch: unknown parameter (found 4); did you mean `fit.epochs`?"),
        ({"fit": {"epochs": 0}}, "fit.epochs: found 0; expected greater than or equal to 1"),
        ({"epochs": 4}, "epochs: unknown parameter (found 4); did you mean `fit.epochs`?"),
        (
            {"learning_rate": 0.1},
            "learning_rate: unknown parameter (found 0.1); did you mean `training.optimizer.learning_rate`?",
        ),
        (
            {"training": {"gpu": {"a": 1}}},
            "training.gpu: unknown parameter (found {'a': 1}); valid keys: optimizer, precision, size",
        ),
        (
            {"classes": [{"name": "a"}, {"name": "b", "klass": "c"}]},
            "classes.1.klass: unknown parameter (found 'c'); did you mean `classes.1.class`?",
        ),
        ({"training": {"optimizer": {"learning_rate": -1}}}, "training.optimizer.learning_rate: found -1; expected gr"),
        ({"training": {"precision": "half"}}, "training.precision: found 'half'; expected 'float32' or 'bfloat16'"),
        ({"training": {"size": 13}}, "training.size: found 13; `size` must not be 13"),
        ({"classes": "a"}, "classes: found 'a'; expected a list, such as `classes=[a]`"),
        ({"classes": [{}]}, "classes.0.name: missing; set it in conf/base/parameters*.yml or in the environment's"),
        ({"raw_root": ["x" * 90]}, f"raw_root: found ['{'x' * 75}...; expected a valid string"),
    ],
)
def test_each_wrong_parameter_has_place_found_and_expected(given, line):
    with pytest.raises(UserError) as caught:
        check_parameters({"seed": 1, **given}, Parameters)
    head, *lines = str(caught.value).splitlines()
    assert head == "1 parameter is wrong (from conf/ and --params)"
    assert len(lines) == 1
    assert lines[0].startswith(f"  {line}")


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_parameter_names_its_new_key(old, new):
    *parents, key = old.split(".")
    given = {key: 1}
    for parent in reversed(parents):
        given = {parent: given}
    told = re.escape(f"{old}: unknown parameter (found 1); it is now `{new}`")
    with pytest.raises(UserError, match=told):
        check_parameters(given, seg_params.Parameters)
    assert new in set(_all_paths(seg_params.Parameters))


def test_a_removed_parameter_says_what_to_do_instead():
    with pytest.raises(UserError, match=r"grid\.range_test: unknown parameter .*; the range test is gone; leave"):
        check_parameters({"hparam_search": {"grid": {"range_test": True}}}, seg_params.Parameters)


def test_all_wrong_parameters_are_reported_at_once():
    with pytest.raises(UserError) as caught:
        check_parameters({"seed": "one", "trainig": {}}, Parameters)
    assert str(caught.value).splitlines() == [
        "2 parameters are wrong (from conf/ and --params)",
        "  seed: found 'one'; expected a valid integer, unable to parse string as an integer",
        "  trainig: unknown parameter (found {}); did you mean `training`?",
    ]


def test_right_parameters_pass():
    check_parameters({"seed": 1, "training": {"optimizer": {"learning_rate": 0.5}}, "raw_root": "x"}, Parameters)


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Of a project whose parameters are those above; ``context(env, **runtime_params)``."""
    module = ModuleType("seg_pipeline.params")
    module.Parameters = Parameters
    monkeypatch.setitem(sys.modules, "seg_pipeline.params", module)
    for env in ("base", "local", "camvid"):
        (tmp_path / env).mkdir()
    (tmp_path / "base" / "parameters.yml").write_text("seed: 1\ntraining: {optimizer: {learning_rate: 0.1}}\n")

    def make(env: str | None = None, **runtime_params: Any) -> SimpleNamespace:
        loader = OmegaConfigLoader(
            str(tmp_path), env=env, base_env="base", default_run_env="local", runtime_params=runtime_params
        )
        return SimpleNamespace(config_loader=loader, env=env)

    return make


def test_the_hook_checks_conf_and_command_line_together(context):
    ParameterHooks().after_context_created(context())
    ParameterHooks().after_context_created(context("camvid", raw_root="here"))
    with pytest.raises(UserError, match=r"row_root: unknown parameter .* did you mean `raw_root`"):
        ParameterHooks().after_context_created(context(row_root="here"))


def test_the_hook_checks_keys_of_pipelines_that_do_not_run(context, tmp_path):
    (tmp_path / "camvid" / "parameters_training.yml").write_text("training: {optimizer: {learning_rate: 0}}\n")
    with pytest.raises(UserError, match=r"training\.optimizer\.learning_rate: found 0; expected greater than 0"):
        ParameterHooks().after_context_created(context("camvid"))


def test_an_unknown_environment_lists_the_available_ones(context, tmp_path):
    with pytest.raises(UserError, match=f"^no environment 'camvit' in {tmp_path}; available: base, camvid, loc"):
        ParameterHooks().after_context_created(context("camvit"))


def test_no_parameters_at_all(context, tmp_path):
    (tmp_path / "base" / "parameters.yml").unlink()
    with pytest.raises(UserError, match=r"^No files of YAML or JSON format found"):
        ParameterHooks().after_context_created(context())


@pytest.mark.parametrize(
    ("yaml", "text"),
    [
        (
            "seed: [1",
            "^cannot read the parameters: .*Invalid YAML or JSON file .*parameters.yml, unable to read line 1",
        ),
        ("seed: ${nothing}", "^conf/, key `seed`: Interpolation key 'nothing' not found$"),
    ],
)
def test_parameters_that_cannot_be_read(context, tmp_path, yaml, text):
    (tmp_path / "base" / "parameters.yml").write_text(yaml)
    with pytest.raises(UserError, match=f"(?s){text}"):
        ParameterHooks().after_context_created(context())
