"""What a person sees who types `kedro run`: a project of two nodes, with the hooks of this one."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FILES = {
    "pyproject.toml": """
        [tool.kedro]
        package_name = "tiny"
        project_name = "tiny"
        kedro_init_version = "1.7.0"
    """,
    ".telemetry": "consent: false",
    "conf/logging.yml": """
        version: 1
        disable_existing_loggers: false
        handlers: {console: {class: logging.StreamHandler, stream: ext://sys.stdout}}
        root: {handlers: [console], level: INFO}
    """,
    "conf/local/.gitkeep": "",
    "conf/base/parameters.yml": "training: {epochs: 2}\n",
    "conf/base/catalog.yml": """
        image_files:
          type: seg_pipeline.datasets.file_index.FileIndexDataset
          filepath: data/01_raw
          pattern: '(?P<frame>\\d+)\\.png'
          metadata: {seg_pipeline: {if_missing: "draw some"}}
        index: {type: pandas.CSVDataset, filepath: data/02_intermediate/index.csv}
    """,
    "src/tiny/__init__.py": "",
    "src/tiny/settings.py": """
        import sys
        from types import ModuleType

        from pydantic import BaseModel

        from seg_pipeline.hooks.errors import ErrorHooks
        from seg_pipeline.hooks.inputs import InputHooks
        from seg_pipeline.hooks.parameters import ParameterHooks
        from seg_pipeline.hooks.summary import SummaryHooks

        HOOKS = (ErrorHooks(), InputHooks(), ParameterHooks(), SummaryHooks())
        CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}

        class Training(BaseModel, extra="forbid"):
            epochs: int

        class Parameters(BaseModel, extra="forbid"):
            training: Training

        sys.modules["seg_pipeline.params"] = ModuleType("seg_pipeline.params")
        sys.modules["seg_pipeline.params"].Parameters = Parameters
    """,
    "src/tiny/pipeline_registry.py": """
        from kedro.framework.project import find_pipelines
        from kedro.pipeline import Pipeline

        def register_pipelines():
            found = find_pipelines(raise_errors=True)
            return found | {"__default__": sum(found.values(), start=Pipeline([]))}
    """,
    "src/tiny/pipelines/__init__.py": "",
    "src/tiny/pipelines/prep/__init__.py": """
        from kedro.pipeline import Node, Pipeline

        def create_pipeline():
            return Pipeline([Node(lambda files: files, "image_files", "index", name="index_files")])
    """,
    "src/tiny/pipelines/training/__init__.py": """
        from kedro.pipeline import Node, Pipeline
        from seg_pipeline.segmentation.images.listing import list_files

        def train(index, epochs):
            if epochs == 3:
                list_files("/nowhere", "*")
            yield 1 / (epochs - 4)

        def create_pipeline():
            return Pipeline([Node(train, ["index", "params:training.epochs"], "model", name="train_model")])
    """,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def kedro(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`kedro run` there; log on stdout, errors on stderr."""
    command = [sys.executable, "-W", "ignore", "-m", "kedro", "run", *arguments]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("KEDRO_")} | environment
    return subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)


def raw_file(project: Path) -> None:
    (project / "data" / "01_raw").mkdir(parents=True, exist_ok=True)
    (project / "data" / "01_raw" / "1.png").touch()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--params", "training.epoch=1"],
            "1 parameter is wrong (from conf/ and --params)\n"
            "  training.epoch: unknown parameter (found 1); did you mean `training.epochs`?",
        ),
        (["--pipeline", "trainig"], "no pipeline named `trainig`; available: prep, training"),
        (
            ["--pipeline", "training", "--env", "local"],
            "the `training` pipeline cannot start: 1 of its inputs is missing\n"
            "  index: no file {project}/data/02_intermediate/index.csv\n"
            "    run `kedro run --pipeline prep --env local` first",
        ),
        (
            [],
            "the default pipeline cannot start: 1 of its inputs is missing\n"
            "  image_files: no file {project}/data/01_raw\n"
            "    draw some",
        ),
    ],
)
def test_a_run_that_cannot_start_is_one_message(project, arguments, message):
    ended = kedro(project, *arguments)
    assert ended.stderr == f"Error: {message.format(project=project)}\n"
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout


@pytest.mark.slow
def test_an_error_of_ours_ends_a_run_with_one_message(project):
    raw_file(project)
    ended = kedro(project, "--params", "training.epochs=3")
    message = "/nowhere: no such folder; put the data there or change the path"
    assert ended.stderr == f"Error: node train_model: {message}\n(Set SEG_PIPELINE_TRACEBACK=1 to see the traceback.)\n"
    assert ended.returncode == 1
    assert message not in ended.stdout  # nor in the log beside it
    assert '--from-nodes "train_model"' in ended.stdout

    ended = kedro(project, "--params", "training.epochs=3", SEG_PIPELINE_TRACEBACK="1")
    assert "Traceback" in ended.stderr
    assert ended.stderr.endswith(f"ValueError: {message}\n")
    assert ended.returncode == 1


def test_an_unexpected_error_keeps_its_traceback(project):
    raw_file(project)
    ended = kedro(project, "--params", "training.epochs=4")
    assert "in train\n" in ended.stderr
    assert ended.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert ended.returncode == 1


def test_a_good_run_ends_with_the_summary(project):
    raw_file(project)
    ended = kedro(project)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-3].startswith("Pipeline default: finished in ")
    assert ended.stdout.splitlines()[-2] == "  files     data/02_intermediate: index.csv"
