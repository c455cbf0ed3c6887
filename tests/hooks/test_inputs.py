from typing import Any

import pytest
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks import inputs
from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.inputs import InputHooks


class Registry(dict):
    """Kedro's pipelines: those asked for, until all are."""

    def __init__(self, everything: dict[str, Pipeline], requested: list[str]) -> None:
        self._everything = everything
        self._requested_pipelines = requested
        super().__init__({name: everything[name] for name in requested if name in everything})

    def set_requested(self, names: None) -> None:
        assert names is None
        self.update(self._everything)


def node(inputs: str | list[str], outputs: str | list[str]) -> Node:
    return Node(lambda *given: given, inputs, outputs, name=f"make_{outputs}".replace(" ", ""))


PREP = Pipeline([node("image_files", "splits")])
TRAINING = Pipeline([node(["splits", "params:training", "best_params", "resume_from"], "checkpoint")])
SEARCH = Pipeline([node("splits", "trials")])
EVERYTHING = {
    "data_processing": PREP,
    "training": TRAINING,
    "hparam_search": SEARCH,
    "__default__": PREP + TRAINING + SEARCH,
}


@pytest.fixture(autouse=True)
def registry(monkeypatch) -> Registry:
    registry = Registry(dict(EVERYTHING), ["training"])
    monkeypatch.setattr(inputs, "pipelines", registry)
    return registry


def catalog(root: object, **more: Any) -> DataCatalog:
    ours = "seg_pipeline.datasets"
    metadata = {"seg_pipeline": {"if_missing": "download it with `make data`"}}
    index = {"type": f"{ours}.file_index.FileIndexDataset", "filepath": f"{root}/raw", "pattern": ".*"}
    best = {"type": "json.JSONDataset", "filepath": f"{root}/best.json"}
    made = DataCatalog.from_config(
        {
            "image_files": {**index, "metadata": metadata},
            "splits": {"type": "pandas.CSVDataset", "filepath": f"{root}/splits.csv"},
            "resume_from": {
                "type": f"{ours}.checkpoint.CheckpointDataset",
                "filepath": f"{root}/last.pt",
                "missing_ok": True,
            },
            "checkpoint": {"type": f"{ours}.checkpoint.CheckpointDataset", "filepath": f"{root}/last.pt"},
            "best_params": {"type": f"{ours}.optional.OptionalDataset", "dataset": best},
            **more,
        }
    )
    made["params:training"] = {"epochs": 2}
    return made


def start(pipeline: Pipeline, data: DataCatalog, *names: str, **run_params: Any) -> None:
    return InputHooks().before_pipeline_run({"pipeline_names": list(names), **run_params}, pipeline, data)


def test_an_input_that_another_pipeline_writes(tmp_path):
    with pytest.raises(UserError) as caught:
        start(TRAINING, catalog(tmp_path), "training", env=None, runtime_params={})
    assert str(caught.value) == (
        "the `training` pipeline cannot start: 1 of its inputs is missing\n"
        f"  splits: no file {tmp_path}/splits.csv\n"
        "    run `kedro run --pipeline data_processing` first"
    )


def test_the_command_takes_environment_and_parameters_along(tmp_path):
    given = {"raw_root": "/my data", "training": {"fit": {"epochs": 3}}}
    with pytest.raises(UserError) as caught:
        start(TRAINING, catalog(tmp_path), "training", env="camvid", runtime_params=given)
    assert (
        "run `kedro run --pipeline data_processing --env camvid "
        "--params 'raw_root=/my data,training.fit.epochs=3'` first"
    ) in str(caught.value)


def test_missing_raw_data_has_its_own_advice(tmp_path):
    with pytest.raises(UserError) as caught:
        start(EVERYTHING["__default__"], catalog(tmp_path))
    assert str(caught.value) == (
        "the default pipeline cannot start: 1 of its inputs is missing\n"
        f"  image_files: no file {tmp_path}/raw\n"
        "    download it with `make data`"
    )


def test_all_missing_inputs_are_listed(tmp_path):
    both = Pipeline([node(["trials", "checkpoint", "labels", "params:nothing"], "report")])
    data = catalog(tmp_path, labels={"type": "json.JSONDataset", "filepath": f"{tmp_path}/labels.json"})
    with pytest.raises(UserError) as caught:
        start(both, data, "report", "training")
    assert str(caught.value).splitlines() == [
        "the `training`, `report` pipeline cannot start: 4 of its inputs are missing",
        f"  checkpoint: no file {tmp_path}/last.pt",
        "    run `kedro run --pipeline training` first",
        f"  labels: no file {tmp_path}/labels.json",
        "  params:nothing: not in the catalog",
        "    create the file or correct its entry in conf/",
        "  trials: not in the catalog",
        "    run `kedro run --pipeline hparam_search` first",
    ]


def test_a_pipeline_whose_inputs_are_there_may_start(tmp_path, registry):
    (tmp_path / "splits.csv").write_text("image_id\n")
    start(TRAINING, catalog(tmp_path), "training")
    assert list(registry) == ["training"]  # no other one was loaded


def test_what_was_in_memory_only_is_said_to_be(tmp_path, registry):
    registry._everything["eda"] = Pipeline([node("splits", "sample")])
    data = DataCatalog({"sample": MemoryDataset()})
    with pytest.raises(UserError, match=r"sample: kept in memory only\n    run `kedro run --pipeline eda` first"):
        start(Pipeline([node("sample", "sheet")]), data, "eda")


class Silent(AbstractDataset):
    """A dataset that does not say whether it exists, as those on a network."""

    def load(self) -> int:
        return 1

    def save(self, data: int) -> None: ...

    def _describe(self) -> dict:
        return {}


class Absent(Silent):
    def _exists(self) -> bool:
        return False


def test_a_dataset_is_missing_only_if_it_says_so():
    sheet = Pipeline([node("remote", "sheet")])
    with pytest.raises(UserError, match="1 of its inputs is missing\n  remote: "):
        start(sheet, DataCatalog({"remote": Absent()}), "eda")
    assert start(sheet, DataCatalog({"remote": Silent()}), "eda") is None


def test_only_missing_outputs_leaves_the_choice_to_kedro(tmp_path):
    with pytest.raises(UserError):
        start(TRAINING, catalog(tmp_path), "training")
    assert start(TRAINING, catalog(tmp_path), "training", only_missing_outputs=True) is None


def test_an_entry_that_cannot_be_made_is_one_message(tmp_path):
    data = catalog(tmp_path, image_files={"type": "pandas.NoDataset", "filepath": "x"})
    with pytest.raises(
        UserError, match=r"(?s)^conf/: An exception occurred when parsing config for dataset 'image_files'"
    ):
        start(PREP, data, "data_processing")


def test_a_misspelt_pipeline_lists_the_available_ones(registry):
    InputHooks().after_context_created()  # `training` is known
    registry._requested_pipelines = ["trainig"]
    with pytest.raises(
        UserError, match=r"^no pipeline named `trainig`; available: data_processing, hparam_search, trai"
    ):
        InputHooks().after_context_created()


@pytest.mark.parametrize("cause", [None, SyntaxError("in nodes.py")])
def test_a_pipeline_whose_code_is_broken_is_not_called_unknown(registry, monkeypatch, cause):
    """Kedro raises ImportError for both; for a broken one it tells the cause."""

    def contains(self: Registry, name: str) -> bool:
        if "__default__" not in self.keys():
            raise ImportError("An error occurred while importing") from cause
        return name in self.keys()

    registry._requested_pipelines = ["trainig"]
    monkeypatch.setattr(Registry, "__contains__", contains)
    with pytest.raises(UserError if cause is None else ImportError):
        InputHooks().after_context_created()


def test_a_check_that_fails_is_not_hidden(tmp_path):
    class Broken(Silent):
        def _exists(self) -> bool:
            raise OSError("the share is gone")

    with pytest.raises(UserError, match="the share is gone") as caught:
        start(Pipeline([node("remote", "sheet")]), DataCatalog({"remote": Broken()}), "eda")
    assert isinstance(caught.value.__cause__, DatasetError)


def test_an_input_optional_for_one_node_is_required_by_others(tmp_path, registry):
    scores = {"type": "json.JSONDataset", "filepath": f"{tmp_path}/scores.json"}
    entries = {
        "scores": {
            "type": "seg_pipeline.datasets.optional.ResultDataset",
            "dataset": scores,
        },
        "plain": scores,
    }
    data = DataCatalog.from_config(entries)
    lenient = Pipeline([node("scores", "report")], tags="accepts_missing_inputs")
    start(lenient, data, "training")  # does not raise
    with pytest.raises(UserError, match="1 of its inputs is missing\n  scores: no file"):
        start(lenient + Pipeline([node("scores", "bundle")]), data, "training")
    with pytest.raises(UserError, match="  plain: no file"):  # it would fail to load
        start(Pipeline([node("plain", "report")], tags="accepts_missing_inputs"), data, "training")
