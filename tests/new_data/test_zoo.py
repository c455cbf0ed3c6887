"""Every data set of the zoo is recognised, and data_processing reads its masks to the pixel."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog
from tests.new_data.zoo import SPECIES

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.command import choose
from seg_pipeline.new_data.plan import DATA, RAW
from seg_pipeline.new_data.scanning import scan
from seg_pipeline.new_data.writing import training_input, write
from seg_pipeline.params import DataProcessingParams, DatasetParams
from seg_pipeline.pipelines.data_processing.pipeline import create_pipeline
from seg_pipeline.segmentation.manifest.table import read_masks


def write_environment(root: Path, folder: Path, answers: dict[str, str]) -> None:
    """What new-data writes for the data in ``root`` without a trial."""
    ask = Asker(answers, interactive=False)
    plan = choose(scan(root), ask)
    write(folder, plan, {"training": training_input(plan.pictures, ask)}, ask.decisions, overwrite=True)


def environment(folder: Path, root: Path) -> tuple[dict[str, pd.DataFrame], DatasetParams, DataProcessingParams]:
    """Tables and parameters of a written environment, as Kedro reads them."""
    entries = yaml.safe_load((folder / "catalog.yml").read_text(encoding="utf-8"))
    catalog = DataCatalog.from_config({name: resolved(entry, root) for name, entry in entries.items()})
    given = resolved(yaml.safe_load((folder / "parameters.yml").read_text(encoding="utf-8")), root)
    tables = {name: catalog[name].load() for name in entries}
    return tables, DatasetParams(**given["dataset"]), DataProcessingParams(**given["data_processing"])


def resolved(value: Any, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: resolved(one, root) for key, one in value.items()}
    if isinstance(value, list):
        return [resolved(one, root) for one in value]
    places = {RAW: str(root), DATA: f"{root}_data", "\\${": "${"}
    for name in places if isinstance(value, str) else ():
        value = value.replace(name, places[name])
    return value


def processed(folder: Path, root: Path, *, draw_splits: bool = False) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Measured images, with the split if the data gives it or it is drawn, findings and class names."""
    tables, dataset, params = environment(folder, root)
    data = {
        "excluded_images": None,
        "previous_measurements": None,
        "measured_parts": root / "parts",
        "predefined_splits": None,
        "params:seed": 0,
        **tables,
    }
    data |= {"params:dataset": dataset, "params:data_processing": params}
    for node in create_pipeline().nodes:
        # what compares images and draws splits takes long, and is tested elsewhere
        wanted = node.name != "check_images" and (
            node.name != "assign_splits" or draw_splits or params.split.method == "table"
        )
        if wanted and data.keys() >= set(node.inputs):
            made = node.func(*(data[name] for name in node.inputs))
            made = list(made)[-1] if inspect.isgenerator(made) else made
            data |= zip(node.outputs, [made] if len(node.outputs) == 1 else made, strict=True)
        if node.name == "assign_splits" and "splits" in data:
            break
    measured = data["measured_images"]
    if "splits" in data:
        measured = measured.merge(data["splits"][["image_id", "split"]], on="image_id")
    found = [data[name] for name in ("annotation_findings", "file_findings", "image_findings")]
    return measured, pd.concat(found), dataset.names


@pytest.mark.slow
@pytest.mark.parametrize("species", SPECIES)
def test_every_form_is_read_to_the_pixel(species, tmp_path, capsys):
    root = tmp_path / "raw"
    root.mkdir()
    truth = SPECIES[species](root)
    write_environment(root, tmp_path / "mine", truth.answers)
    told = capsys.readouterr().out
    manifest, findings, names = processed(tmp_path / "mine", root)
    assert truth.told in told
    files = [Path(path).relative_to(root).as_posix() for path in manifest["path"]]
    assert sorted(files) == sorted(truth.masks), f"{told}\n{findings}"
    assert len(findings) == truth.findings, findings
    assert sorted(names) == sorted(next(iter(truth.masks.values())))
    for file, row in zip(files, manifest.to_dict("records"), strict=True):
        for name, mask in zip(names, read_masks(row, names), strict=True):
            np.testing.assert_array_equal(mask == 1, truth.masks[file][name], err_msg=f"{file} {name}\n{told}")
    if truth.splits is not None:
        assert dict(zip(files, manifest["split"], strict=True)) == truth.splits
    if truth.groups is not None:
        assert manifest["group"].nunique() == truth.groups
