import errno
import json
import logging

import click
import numpy as np
import pandas as pd
import pytest
from kedro.framework.hooks import _create_hook_manager, hook_impl
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner

from seg_pipeline.datasets.file_index import FileIndexDataset
from seg_pipeline.hooks.errors import ErrorHooks, UserError, text_for_user
from seg_pipeline.segmentation.images.listing import list_files


def error_of(function, *inputs: object, runner=SequentialRunner, **datasets: object) -> Exception:
    """The error that ends a run of one node of that function."""
    names = [f"in{index}" for index in range(len(inputs))] or sorted(datasets)
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in zip(names, inputs, strict=False)} | datasets)
    pipeline = Pipeline([Node(function, names, "out", name="the_node")])
    with pytest.raises(Exception) as caught:  # noqa: PT011  the tests say which
        runner().run(pipeline, catalog, _create_hook_manager())
    return caught.value


def our_error(folder: str) -> list[str]:
    return list_files(folder, "*")


def foreign_error(_: object) -> np.ndarray:
    return np.zeros(3).reshape(2, 2)


def test_our_own_errors_are_for_the_user(tmp_path):
    error = error_of(our_error, f"{tmp_path}/none")
    assert text_for_user(error) == f"{tmp_path}/none: no such folder; put the data there or change the path"


def test_a_value_error_of_other_code_is_not(tmp_path):
    error = error_of(foreign_error, 1)
    assert isinstance(error, ValueError)
    assert text_for_user(error) is None


def test_a_value_error_that_our_line_calls_forth_is_not(tmp_path, monkeypatch):
    """The innermost Python frame is ours then too, but it holds no ``raise``."""
    monkeypatch.setattr("seg_pipeline.segmentation.images.listing.Path", int)
    assert text_for_user(error_of(our_error, "no number")) is None


@pytest.mark.parametrize("error", [KeyError("a"), AssertionError("b"), ValueError("never raised")])
def test_other_kinds_of_error_are_not(error):
    assert text_for_user(error) is None


def test_our_error_inside_a_dataset_is_told_without_kedros_wrapping(tmp_path):
    index = FileIndexDataset(filepath=f"{tmp_path}/none", pattern=".*")
    error = error_of(our_error, files=index)
    assert isinstance(error, DatasetError)
    assert text_for_user(error) == f"{tmp_path}/none: no such folder; put the data there or change the path"


def test_a_file_that_cannot_be_read_is_told_with_its_dataset(tmp_path):
    (tmp_path / "a.json").write_text("{")
    catalog = DataCatalog.from_config({"scores": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/a.json"}})
    with pytest.raises(DatasetError) as caught:
        catalog.load("scores")
    assert isinstance(caught.value.__cause__.__cause__, json.JSONDecodeError)
    assert text_for_user(caught.value).startswith("scores: Failed while loading data from dataset")
    assert f"{tmp_path}/a.json" in text_for_user(caught.value)


@pytest.mark.fault(
    scenario="disk full or no permission, anywhere in a node",
    command="any pipeline",
    outcome="one sentence that names the file",
)
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space", "a.csv"), "a.csv: No space left on device; free disk space or set another"),
        (PermissionError(errno.EACCES, "Not you", "b.csv"), "b.csv: Permission denied; check its permissions"),
    ],
)
def test_an_error_of_the_disk_is_one_sentence_wherever_it_happens(error, text):
    assert text_for_user(error).startswith(text)
    assert text_for_user(OSError(errno.EIO, "broken", "c.csv")) is None


def test_an_error_of_the_disk_without_a_file_has_that_of_its_dataset(tmp_path):
    error = DatasetError(f"Failed.\nParquetDataset(filepath=PurePosixPath('{tmp_path}/t.parquet'))")
    error.__cause__ = OSError(errno.EROFS, "Failed to open")
    assert text_for_user(error).startswith(f"{tmp_path}/t.parquet: Read-only file system; check its permissions")


def test_a_bug_that_kedro_wraps_keeps_its_traceback(tmp_path):
    catalog = DataCatalog.from_config({"scores": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/a.json"}})
    with pytest.raises(DatasetError) as caught:
        catalog.save("scores", {"dice": np.float32(1)})
    assert text_for_user(caught.value) is None


def no_split(table: pd.DataFrame) -> None:
    if "split" not in table:
        raise ValueError("column `split` is missing")


def test_a_failed_validation_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("seg_pipeline.segmentation.manifest.files.no_split", no_split, raising=False)
    entry = {
        "type": "pandas.CSVDataset",
        "filepath": f"{tmp_path}/a.csv",
        "validator": "seg_pipeline.segmentation.manifest.files.no_split",
    }
    catalog = DataCatalog.from_config({"manifest": entry})
    with pytest.raises(DatasetError) as caught:
        catalog.save("manifest", pd.DataFrame({"image_id": ["a"]}))
    assert "column `split` is missing" in text_for_user(caught.value)
    assert "manifest" in text_for_user(caught.value)


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_the_run_ends_with_node_and_text(tmp_path, runner, caplog):
    error = error_of(our_error, f"{tmp_path}/none", runner=runner)
    caplog.set_level(logging.DEBUG, "seg_pipeline.hooks.errors")
    with pytest.raises(UserError) as caught:
        ErrorHooks().on_pipeline_error(error)
    assert str(caught.value) == (
        f"node the_node: {tmp_path}/none: no such folder; put the data there or change the path\n"
        "(Set SEG_PIPELINE_TRACEBACK=1 to see the traceback.)"
    )
    assert caught.value.__cause__ is error
    assert "in list_files" in caplog.text  # the traceback


def test_the_node_is_known_where_a_dataset_fails(tmp_path):
    error = error_of(our_error, files=FileIndexDataset(filepath=f"{tmp_path}/none", pattern=".*"))
    with pytest.raises(UserError, match=r"^node the_node: /"):
        ErrorHooks().on_pipeline_error(error)


def test_an_unexpected_error_is_left_to_kedro_and_on_request_so_is_one_for_the_user(tmp_path, monkeypatch):
    error = error_of(our_error, f"{tmp_path}/none")
    with pytest.raises(UserError):
        ErrorHooks().on_pipeline_error(error)
    assert ErrorHooks().on_pipeline_error(error_of(foreign_error, 1)) is None
    monkeypatch.setenv("SEG_PIPELINE_TRACEBACK", "1")
    assert ErrorHooks().on_pipeline_error(error) is None


def test_code_sees_a_value_error_and_the_command_line_one_message(capsys):
    error = UserError("what to do")
    assert isinstance(error, ValueError)
    assert isinstance(error, click.ClickException)
    assert str(error) == "what to do"
    error.show()
    assert capsys.readouterr().err == "Error: what to do\n"
    assert error.exit_code == 1


def test_kedros_line_on_a_failed_node_is_left_out_where_the_end_says_the_same(tmp_path, caplog):
    caplog.set_level(logging.INFO, "kedro.pipeline.node")
    logger = logging.getLogger("kedro.pipeline.node")
    before = list(logger.filters)
    try:
        ErrorHooks().after_context_created()
        error_of(our_error, f"{tmp_path}/none")
        assert "Running node: the_node" in caplog.text
        assert "none: no such folder" not in caplog.text
        error_of(foreign_error, 1)
        assert "cannot reshape array" in caplog.text
    finally:
        logger.filters = before


def test_all_other_hooks_hear_of_the_error_first(tmp_path):
    class Listener:
        heard = None

        @hook_impl
        def on_pipeline_error(self, error: Exception) -> None:
            self.heard = error

    listener = Listener()
    manager = _create_hook_manager()
    for hooks in (listener, ErrorHooks()):  # pluggy asks the last one first
        manager.register(hooks)
    error = error_of(our_error, f"{tmp_path}/none")
    with pytest.raises(UserError):
        manager.hook.on_pipeline_error(error=error, run_params={}, pipeline=None, catalog=None)
    assert listener.heard is error


def test_a_first_node_that_fails_brings_no_advice_to_try_again(caplog):
    caplog.set_level(logging.WARNING)
    ErrorHooks().after_context_created()
    error_of(foreign_error, 3)
    assert "No nodes ran" not in caplog.text
