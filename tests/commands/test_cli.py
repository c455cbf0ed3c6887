"""What Kedro answers with a traceback before the first node."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from seg_pipeline.cli import cli

ROOT = Path(__file__).parents[2]


def run(monkeypatch, *options: str) -> str:
    monkeypatch.chdir(ROOT)
    bootstrap_project(ROOT)
    result = CliRunner().invoke(cli, ["run", *options])
    assert result.exit_code == 1
    return result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tags", "modl"], "--tags modl: there is no such tag in __default__; the nearest are model"),
        (["--nodes", "training.train"], "--nodes training.train: there is no such node in __default__; the "),
        (["--pipelines", "eda", "--nodes", "plot_samples"], "no such node in eda; the nearest are eda.plot_samples"),
        (["--to-outputs", "checkpont"], "--to-outputs checkpont: there is no such data set in __default__; the n"),
        (["--pipelines", "export_nnunet", "--tags", "zzz"], "there is no such tag in export_nnunet; there are export"),
        (
            ["--pipelines", "eda", "--to-outputs", "eda.class_counts", "--from-nodes", "eda.plot_memory"],
            "no node fits all of these options together; leave one out",
        ),
    ],
)  # fmt: skip
def test_a_filter_that_names_nothing_says_what_there_is(monkeypatch, options, message):
    assert message in run(monkeypatch, *options, "--params", "tracking.enabled=false")


def test_an_interpolation_that_cannot_be_resolved_names_its_key(monkeypatch, tmp_path):
    import shutil

    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    with (tmp_path / "conf/base/globals.yml").open("a") as file:
        file.write("scratch: ${nosuch.key}\n")
    said = run(monkeypatch, "--conf-source", str(tmp_path / "conf"), "--pipelines", "eda")
    assert "Error: conf/, key `scratch`: Interpolation key 'nosuch.key' not found" in said
