import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.setup import SampleHooks

PHANTOM = {"num_cases": 1, "days_per_case": 1, "frames_per_series": [3, 3], "size": 64}


def start(
    project: Path, *, reads: str = "raw_metadata", phantom: dict | None = PHANTOM, **runtime_params
) -> DataCatalog:
    raw = project / runtime_params.get("raw_root", "raw")
    catalog = DataCatalog.from_config(
        {
            "raw_metadata": {"type": "pandas.CSVDataset", "filepath": f"{raw}/train.csv"},
            "manifest": {"type": "pandas.CSVDataset", "filepath": f"{project}/manifest.csv"},
        }
    )
    hooks = SampleHooks()
    settings = {"globals": {"raw_root": "raw", "phantom": phantom}}
    hooks.after_context_created(SimpleNamespace(config_loader=settings, project_path=project))
    pipeline = Pipeline([Node(lambda table: table, reads, "result", name="read")])
    hooks.before_pipeline_run({"runtime_params": runtime_params}, pipeline, catalog)
    return catalog


def test_a_run_that_reads_raw_data_draws_the_sample_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    catalog = start(tmp_path)
    assert len(catalog.load("raw_metadata")) == 3 * 3 + 8  # three rows per frame, and the faulty ones
    start(tmp_path)
    assert len([message for message in caplog.messages if "phantom of" in message]) == 1


def test_a_run_that_reads_no_raw_data_draws_nothing(tmp_path):
    start(tmp_path, reads="manifest")
    assert not list(tmp_path.iterdir())


def test_own_data_is_left_alone(tmp_path):
    start(tmp_path, phantom=None)
    assert not list(tmp_path.iterdir())


def test_the_folder_of_the_command_line_is_used(tmp_path):
    start(tmp_path, raw_root="elsewhere")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_other_settings_replace_the_sample(tmp_path):
    start(tmp_path)
    start(tmp_path, phantom={**PHANTOM, "dirty": False})
    assert json.loads((tmp_path / "raw" / "phantom.json").read_text())["settings"]["dirty"] is False


def test_a_folder_with_other_files_is_not_overwritten(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train.csv").write_text("id\n")
    with pytest.raises(UserError, match=r"is not a phantom's folder"):
        start(tmp_path)
    assert (tmp_path / "raw" / "train.csv").read_text() == "id\n"


def test_another_layout(tmp_path):
    start(tmp_path, phantom={**PHANTOM, "layout": "folders"})
    assert (tmp_path / "raw" / "masks").is_dir()
