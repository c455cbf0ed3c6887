"""Every file of the catalog is written whole or not at all: a save that fails half-way leaves the old file."""

import errno
import json
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.config import OmegaConfigLoader
from kedro.io import AbstractDataset, DatasetError
from matplotlib.figure import Figure
from plotly import graph_objects

from seg_pipeline.datasets import atomic as datasets
from seg_pipeline.datasets.atomic import CSVDataset
from seg_pipeline.segmentation.storage import atomic
from seg_pipeline.segmentation.storage.stored_columns import StoredColumn

ROOT = Path(__file__).parents[2]
ROOM = 300
"""Bytes that fit on the disk that is nearly full."""
NOT_A_FILE = {"BundleDataset", "FileIndexDataset", "FolderDataset", "ImageFolderDataset", "ManifestsDataset",
              "MemoryDataset"}  # fmt: skip
"""Kinds that are not saved, or that a test of their own fills the disk for."""

RAW = "pandas.CSVDataset"
"""Kind of the tables from elsewhere, which are only read."""


def entries() -> dict[str, dict]:
    loader = OmegaConfigLoader(conf_source=str(ROOT / "conf"), base_env="base", default_run_env="base")
    found = {}
    for name, config in loader["catalog"].items():
        inner = config.get("dataset", config)
        if inner["type"] != RAW and inner["type"].rpartition(".")[2] not in NOT_A_FILE:
            found[name] = {key: value for key, value in config.items() if key not in ("validator", "metadata")}
    return found


def moved(config: dict, folder: Path) -> dict:
    """The entry with its file in ``folder``."""
    if "dataset" in config:
        return {**config, "dataset": moved(config["dataset"], folder)}
    return {**config, "filepath": str(folder / Path(config["filepath"]).name)}


def alike(config: dict) -> str:
    """All of an entry but its file's name, of which it keeps the suffix."""
    outer = {**config, "dataset": None} if "dataset" in config else None
    entry = config.get("dataset", config)
    return json.dumps([outer, {**entry, "filepath": Path(entry["filepath"]).suffix}], sort_keys=True)


ENTRIES = entries()
KINDS = list({alike(config): name for name, config in ENTRIES.items()}.values())
"""One entry of each kind that is saved alike."""


def some(kind: str, seed: int) -> object:
    """Something that the kind saves, in more than ``ROOM`` bytes."""
    values = np.random.default_rng(seed).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(values[0, 0, :, 0])
    return {
        "ParquetDataset": pd.DataFrame({"value": values.ravel()}),
        "CSVDataset": pd.DataFrame({"value": values.ravel()}),
        "JSONDataset": {"values": values.ravel().tolist()},
        "TextDataset": str(values.ravel().tolist()),
        "PageDataset": str(values.ravel().tolist()),
        "ChartDataset": graph_objects.Figure(graph_objects.Scatter(y=values.ravel())),
        "AnimationDataset": values,
        "CheckpointDataset": {"weights": torch.from_numpy(values)},
    }.get(kind, figure)


@contextmanager
def nearly_full_disk():
    """Files cannot grow beyond ``ROOM`` bytes; Python ignores the signal, so the write itself fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_catalog_has_files_of_every_kind():
    assert len(ENTRIES) > 60
    assert {alike(ENTRIES[name]) for name in KINDS} == {alike(config) for config in ENTRIES.values()}


@pytest.mark.fault(
    scenario="disk full while an output is saved",
    command="any pipeline",
    outcome="every file of the catalog stays as it was, and no partial file is left",
    review="serving 8",
)
@pytest.mark.parametrize("name", KINDS)
def test_a_save_that_fails_in_the_middle_leaves_the_old_file(name, tmp_path):
    config = moved(ENTRIES[name], tmp_path)
    kind = config.get("dataset", config)["type"].rpartition(".")[2]
    AbstractDataset.from_config(name, config).save(some(kind, seed=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with nearly_full_disk(), pytest.raises((DatasetError, OSError)) as failure:
        AbstractDataset.from_config(name, config).save(some(kind, seed=2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    causes = [failure.value]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    said = ("File too large", "0 of 3 frames were written; is the disk full?")
    assert any(getattr(one, "errno", None) == errno.EFBIG or str(one).endswith(said) for one in causes), causes


class Killed(BaseException):
    pass


def die(*_: object) -> None:
    raise Killed


@pytest.mark.fault(
    scenario="killed while an output is saved",
    command="any pipeline",
    outcome="the next save of the file removes what the killed one left",
)
@pytest.mark.parametrize("name", KINDS)
def test_the_next_save_removes_what_a_killed_one_left(name, tmp_path, monkeypatch):
    config = moved(ENTRIES[name], tmp_path)
    kind = config.get("dataset", config)["type"].rpartition(".")[2]
    AbstractDataset.from_config(name, config).save(some(kind, seed=1))
    before = {path.name for path in tmp_path.iterdir()}
    with monkeypatch.context() as killed:  # no clean-up, and the system releases the locks
        killed.setattr(atomic, "_remove", lambda _: None)
        killed.setattr(Path, "replace", die)
        with pytest.raises((DatasetError, Killed)):
            AbstractDataset.from_config(name, config).save(some(kind, seed=2))
    left = {path.name for path in tmp_path.iterdir()} - before
    assert left
    assert all(".part0" in one for one in left)
    AbstractDataset.from_config(name, config).save(some(kind, seed=3))
    after = {path.name.replace(".previous", "") for path in tmp_path.iterdir()}
    assert after == before


@pytest.mark.parametrize("text", ["id,class\n", "id,class\n1,\n\n2,b\n3,NA\n"])
def test_text_is_read_by_blocks(tmp_path, monkeypatch, text):
    monkeypatch.setattr(datasets, "BLOCK", 2)
    (tmp_path / "t.csv").write_text(text)
    how = {"dtype": "str", "keep_default_na": False, "na_values": [""], "skip_blank_lines": False}
    entry = CSVDataset(filepath=(tmp_path / "t.csv").as_posix(), load_args=how)
    read = entry.load()
    assert (len(read) > 1) == all(isinstance(read[name].array, StoredColumn) for name in read)
    pd.testing.assert_frame_equal(read.astype("str"), pd.read_csv(tmp_path / "t.csv", **how))


@pytest.mark.parametrize("more", [{"index_col": "id"}, {"skipfooter": 1, "engine": "python"}])
def test_text_is_read_at_once_where_blocks_cannot_be(tmp_path, more):
    (tmp_path / "t.csv").write_text("id,class\n1,a\n2,b\n")
    entry = CSVDataset(filepath=(tmp_path / "t.csv").as_posix(), load_args={"dtype": "str", **more})
    pd.testing.assert_frame_equal(entry.load(), pd.read_csv(tmp_path / "t.csv", dtype="str", **more))
