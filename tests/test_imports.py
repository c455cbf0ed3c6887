"""Listing and drawing pipelines must not wait for torch: every `kedro` command imports the registry."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each takes 0.3 to 5 s to import.
HEAVY = {
    "matplotlib",
    "mlflow",
    "segmentation_models_pytorch",
    "sklearn",
    "timm",
    "torch",
    "torchmetrics",
    "torchvision",
}

NOT_FOR_A_LIST = HEAVY | {"cv2", "numpy", "pandas"}
"""pandas (0.5 s) is Kedro's own need as soon as there is a catalog, but not before."""


def imported_by(*arguments: str) -> set[str]:
    """Full names of all modules that ``python *arguments`` imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return set(re.findall(r"^import time:.*\| +([\w.]+)", ended.stderr, re.MULTILINE))


def test_the_probe_sees_a_heavy_import():
    assert imported_by("-c", "import matplotlib.colors") & HEAVY == {"matplotlib"}


def test_the_registry_loads_every_pipeline_without_heavy_packages():
    code = """
from kedro.framework.project import configure_project
configure_project("seg_pipeline")
from seg_pipeline.pipeline_registry import register_pipelines
assert register_pipelines()["__default__"].nodes
"""
    assert imported_by("-c", code) & NOT_FOR_A_LIST == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "unneeded"),
    [(["--version"], NOT_FOR_A_LIST), (["registry", "list"], NOT_FOR_A_LIST), (["catalog", "list-patterns"], HEAVY)],
)
def test_kedro_commands_stay_light(command: list[str], unneeded: set[str]):
    assert imported_by("-m", "kedro", *command) & unneeded == set()


@pytest.mark.slow
def test_data_processing_needs_no_torch():
    """400 MB of memory and some seconds; a tenth of a million images' tables takes less."""
    code = """
import pandas as pd
from seg_pipeline import segmentation as seg
assert seg.metrics.annotator_agreement(pd.DataFrame({"id": ["a"]}), {"a": "a"}).empty
for name in ("clean_annotations", "merge_files", "measure_rows", "check_images", "assign_splits", "check_leaks"):
    getattr(seg.manifest, name)
assert seg.report.findings_page
"""
    assert imported_by("-c", code) & HEAVY == {"matplotlib"}


@pytest.mark.parametrize("command", ["predict"])
def test_commands_that_run_an_exported_model_need_neither_torch_nor_kedro(command: str):
    code = f"""
from seg_pipeline.__main__ import COMMANDS
import importlib
importlib.import_module(COMMANDS["{command}"].module)
import seg_pipeline.segmentation.inference, seg_pipeline.segmentation.prediction.predictor
"""
    assert imported_by("-c", code) & (HEAVY | {"kedro", "onnxruntime"}) == set()
