"""What Kedro answers with a traceback before the first node."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from seg_pipeline.cli import cli, read_params

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _project() -> None:
    bootstrap_project(ROOT)


def run(monkeypatch, *options: str) -> str:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, ["run", *options])
    assert result.exit_code == 1
    return result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tags", "modl"], "--tags modl: no such tag in __default__; similar: model"),
        (["--nodes", "training.train"], "--nodes training.train: no such node in __default__; simil"),
        (["--pipelines", "eda", "--nodes", "plot_samples"], "no such node in eda; similar: eda.plot_samples"),
        (["--to-outputs", "checkpont"], "--to-outputs checkpont: no such data set in __default__; s"),
        (["--pipelines", "export_nnunet", "--tags", "zzz"], "no such tag in export_nnunet; available: export"),
        (
            ["--pipelines", "eda", "--to-outputs", "eda.class_counts", "--from-nodes", "eda.plot_memory"],
            "no node matches all of these options; leave one out",
        ),
    ],
)  # fmt: skip
def test_a_filter_that_names_nothing_says_what_there_is(monkeypatch, options, message):
    assert message in run(monkeypatch, *options, "--params", "tracking.enabled=false")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("training.input.size=[96,128],seed=3", {"training": {"input": {"size": [96, 128]}}, "seed": 3}),
        ("a=[[0,1],[2,3]],b=x", {"a": [[0, 1], [2, 3]], "b": "x"}),
        ("a={b: [1,2],c: 3}, d=4", {"a": {"b": [1, 2], "c": 3}, "d": 4}),
        ('a="x, y",b=[z', {"a": "x, y", "b": "[z"}),
        ("images=scans/*.png,other=*.png", {"images": "scans/*.png", "other": "*.png"}),
        ("root=a [1,b=null,c=", {"root": "a [1", "b": None, "c": None}),
        ("", {}),
    ],
)
def test_parameters_may_be_lists(text, values):
    assert read_params(None, None, text) == values


@pytest.mark.parametrize("item", ["seed", "=3"])
def test_a_parameter_without_a_key_or_value_shows_the_form_that_works(monkeypatch, item):
    said = run(monkeypatch, "--params", f"a=1,{item}")
    assert f"--params: '{item}' must be KEY=VALUE, such as `--params training.fit.epochs=5,training.input.s" in said


def test_parameters_that_the_locale_cannot_read_say_what_to_set(monkeypatch):
    """As Python passes them under LC_ALL=C without UTF-8 mode."""
    said = run(monkeypatch, "--params", "data_root=d\udcc3\udca4ten")
    assert (
        "--params: 'data_root=däten' has characters that this locale (LC_ALL, LANG) cannot read; set PYTHONUTF8=1"
        in said
    )


def test_an_interpolation_that_cannot_be_resolved_names_its_key(monkeypatch, tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    with (tmp_path / "conf/base/globals.yml").open("a") as file:
        file.write("scratch: ${nosuch.key}\n")
    said = run(monkeypatch, "--conf-source", str(tmp_path / "conf"), "--pipelines", "eda")
    assert "Error: conf/, key `scratch`: Interpolation key 'nosuch.key' not found" in said


@pytest.mark.parametrize("place", ["catalog", "parameters"])
def test_an_interpolation_in_other_files_names_its_key_too(monkeypatch, tmp_path, place):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    with (tmp_path / f"conf/smoke/{place}.yml").open("a") as file:
        file.write({"catalog": "own: {type: MemoryDataset, metadata: '${nosuch.key}'}\n",
                    "parameters": "\nreporting: {compare_with: '${nosuch.key}'}\n"}[place])  # fmt: skip
    said = run(monkeypatch, "--conf-source", str(tmp_path / "conf"), "--env", "smoke", "--pipelines", "eda")
    key = {"catalog": "own.metadata", "parameters": "reporting.compare_with"}[place]
    assert f"Error: conf/, key `{key}`: Interpolation key 'nosuch.key' not found" in said
