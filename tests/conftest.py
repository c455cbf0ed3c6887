"""Tiny drawn scans: bright squares ("box") and discs ("disc") on grey noise, two images a group."""

import gc
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
from filelock import FileLock

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.settings.training import (
    FitSettings,
    InputSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    SamplingSettings,
    ScoreSettings,
)
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("warm", ROOT / "tests" / "runs" / "warm.py")
warm_module = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(warm_module)


gc.disable()  # until all is collected: it costs a third of the time that importing the tests takes

LONGEST = [
    "test_engines.py", "test_faults.py", "test_docs.py", "test_distributed.py", "test_real_data.py",
    "test_notebooks.py", "test_processes.py", "test_plain_network.py", "test_bad_input.py", "test_export.py",
    "test_inputs.py", "test_cases.py", "test_run.py", "test_kill.py", "test_kills.py",
]  # fmt: skip
"""Those that need the smoke run do not come one after another: the second would wait for the first one's."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then others with slow tests, so that two processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (order.get(item.path.name, len(order)), item.path not in slow))


def pytest_collection_finish() -> None:
    """What has been imported stays, so garbage collection need not go through it each time."""
    gc.freeze()
    gc.enable()


def copy_checkout(folder: Path) -> Path:
    """Copy all files that git tracks or would add, which leaves out data and results.

    Figures get few pixels there: those of the default take a third of the time of a small run.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, listed):
        target = folder / name
        if (ROOT / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    parameters = folder / "conf" / "base" / "parameters.yml"
    coarse = re.sub(r"(?m)^  dpi: \d+", "  dpi: 50", parameters.read_text())
    assert "  dpi: 50" in coarse
    parameters.write_text(coarse)
    return folder


def run_in_clone(command: list[str], clone: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The finished command, where a person would type it: in a clone, with the environment to_probabilities."""
    known = {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "true", "KEDRO_DISABLE_TELEMETRY": "true"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **known, "PATH": path, "PYTHONPATH": str(clone / "src"), **variables}
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def in_clone() -> SimpleNamespace:
    """The two helpers above, for tests: conftest is no module that they could import."""
    return SimpleNamespace(copy=copy_checkout, run=run_in_clone)


@pytest.fixture(scope="session")
def warm(tmp_path_factory) -> Iterator[Any]:
    """``run(*argv, cwd=…)`` of Kedro in a fork of a process that has loaded all packages."""
    with warm_module.warm_process(tmp_path_factory.mktemp("warm")) as made:
        yield made


class SmokeRun(NamedTuple):
    """A finished `kedro run --env smoke` of a fresh clone; its files must stay as they are, as other tests read them.

    It does what the first block of docs/tutorial/first_hour.md does, and tracks the run.
    """

    command: str
    raw: Path
    out: Path
    tracking_uri: str
    process: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def running_after() -> Callable[[list[psutil.Process]], list[psutil.Process]]:
    """Waits up to two minutes for processes to end, and kills and gives those that have not.

    A zombie has ended: it waits for whoever inherited it to ask for its exit status.
    """

    def ended(process: psutil.Process) -> bool:
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def wait(processes: list[psutil.Process]) -> list[psutil.Process]:
        deadline = time.monotonic() + 120  # loky's own workers wait for five minutes
        while (left := [one for one in processes if not ended(one)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        for one in left:
            one.kill()
        return left

    return wait


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all test processes have in common; who makes its content holds the lock file in it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> SmokeRun:
    """Made by the first test process that asks for it, and shared with the others: it takes half a minute."""
    folder = shared_folder(tmp_path_factory, "smoke_run")
    clone, command = folder / "clone", "kedro run --env smoke --params tracking.log_model=false"
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with FileLock(folder / "lock"):
        record = folder / "process.json"
        if not record.exists():
            variables = {"PYTHONWARNINGS": "default", "MLFLOW_TRACKING_URI": uri}
            done = run_in_clone(["bash", "-euo", "pipefail", "-c", command], copy_checkout(clone), **variables)
            record.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
        code, stdout, stderr = json.loads(record.read_text())
    process = subprocess.CompletedProcess(command, code, stdout, stderr)
    return SmokeRun(command, clone / "data" / "01_raw" / "phantom_smoke", clone / "data" / "smoke", uri, process)


CLASSES = {"box": "box", "disc": "disc"}


def draw_scan(seed: int, height: int = 40, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (H, W) and bool masks (2, H, W); every fourth scan shows neither class."""
    rng = np.random.default_rng(seed)
    image = rng.normal(70, 8, (height, width))
    masks = np.zeros((2, height, width), dtype=np.uint8)
    if seed % 4:
        top, left = rng.integers(2, 8, 2)
        masks[0, top : top + 14, left : left + 11] = 1
        centre = (int(rng.integers(32, 38)), int(rng.integers(22, 30)))
        cv2.circle(masks[1], centre, 7, 1, -1)
    image = image + 90 * masks[0] + 150 * masks[1]
    return image.clip(0, 255).astype(np.uint8), masks.astype(bool)


def write_scans(folder: Path, number: int) -> pd.DataFrame:
    """PNG files, and the table that pivot and merge would make of their run lengths."""
    rows = []
    for index in range(number):
        image, masks = draw_scan(index)
        name = f"scan{index:02d}"
        cv2.imwrite(str(folder / f"{name}.png"), image)
        lists = {
            f"mask_{label}": [encode_rle(mask, order="C")] if mask.any() else []
            for label, mask in zip(CLASSES, masks, strict=True)
        }
        about = {
            "image_id": name,
            "row": index + 2,
            "file": f"{name}.png",
            "path": str(folder / f"{name}.png"),
        }
        rows.append(
            {
                **about,
                "group": f"group{index // 2}",
                "series": f"group{index // 2}",
                "frame": index % 2,
                **lists,
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def located(tmp_path_factory) -> pd.DataFrame:
    """16 images with files and mask lists, as merge_files leaves them."""
    return write_scans(tmp_path_factory.mktemp("scans"), 16)


@pytest.fixture(scope="session")
def manifest(located) -> pd.DataFrame:
    """The manifest of the 16 images: 10 train, 3 val, 3 test."""
    table, findings = measure_images(located, MaskReader(CLASSES, "rle"))
    assert findings.empty
    return table.assign(split=["train"] * 10 + ["val"] * 3 + ["test"] * 3)


@pytest.fixture(scope="session")
def config() -> TrainingConfig:
    """An untrained network of the smallest encoder that timm has, on 32 x 64 inputs."""
    return TrainingConfig(
        task="multilabel",
        classes=tuple(CLASSES),
        model=ModelSettings(encoder="tu-test_efficientnet", encoder_weights=None, decoder_channels=(16, 8, 8, 8)),
        input=InputSettings(size=(32, 64)),
        sampling=SamplingSettings(batch_size=4, augmentation="medical"),
        optimizer=OptimizerSettings(learning_rate=3e-3),
        fit=FitSettings(epochs=3, precision="float32"),
        loss=LossSettings(class_weights="none"),
        scores=ScoreSettings(aggregation="dataset"),
        seed=5,
    )


@pytest.fixture(scope="session")
def checkpoint(config) -> dict:
    """Of that network on larger inputs."""
    import torch

    from seg_pipeline.segmentation.training.state import start

    tiny = config.changed({"input.size": (64, 96)})
    trained = start(tiny, "", torch.device("cpu")).best_model()
    return {
        "config": tiny.to_dict(),
        "data_hash": "d",
        "folds": None,
        "models": [{"config": tiny.to_dict(), **trained}],
    }


@pytest.fixture(scope="session")
def bundle_folder(checkpoint, tmp_path_factory) -> Path:
    """An exported model of every exact format: the classes box and disc, multilabel, input 64 x 96. Shared as above."""
    from seg_pipeline.segmentation.export import make_bundle

    folder = shared_folder(tmp_path_factory, "exported")
    with FileLock(folder / "lock"):
        if not (folder / "bundle").exists():
            make_bundle(checkpoint, folder / "bundle", formats=["onnx", "torchscript", "pt2", "safetensors"])
    return folder / "bundle"


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> pd.DataFrame:
    """The manifest of 28 images, enough for the gates of a search: 16 train, 12 val."""
    table, _ = measure_images(write_scans(tmp_path_factory.mktemp("scans"), 28), MaskReader(CLASSES, "rle"))
    return table.assign(split=["train"] * 16 + ["val"] * 12)
