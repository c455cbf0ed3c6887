"""`kedro run` as a user starts it: the smoke environment from raw files to scores, and what breaks it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


def kedro(*arguments, params=(), env="smoke", tracking="off"):
    """The finished process of `kedro run` with these arguments."""
    command = [sys.executable, "-m", "kedro", "run", "--env", env, *arguments]
    if given := ",".join([*params, "tracking.enabled=false"] if tracking == "off" else params):
        command += ["--params", given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment())


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def roots(folder):
    return [f"data_root={folder / 'out'}", f"raw_root={folder / 'raw'}"]


def models(folder):
    return folder / "out" / "06_models"


def weights(folder):
    return torch.load(models(folder) / "last.pt", weights_only=True)["current"]["model"]


def test_a_run_ends_with_scores_and_all_its_artifacts(smoke_run):
    folder, process = smoke_run.out.parent, smoke_run.process
    assert process.returncode == 0, process.stderr[-3000:]
    reporting = folder / "out" / "08_reporting"
    scores = json.loads((reporting / "test_scores.json").read_text())
    assert set(scores) >= {"mean_dice", "mean_iou", "aggregation", "empty_policy", "num_images", "classes"}
    assert list(scores["classes"]) == ["large_bowel", "small_bowel", "stomach"]
    assert len(pd.read_parquet(reporting / "training_history.parquet")) == 3
    pictures = {path.name for path in reporting.glob("*.png")}
    assert pictures - {"postprocessing_chart.png"} == {  # that one only where a step gains
        "augmentation_sheet.png",
        "class_counts_chart.png",
        "class_scores.png",
        "class_overview.png",
        "confusion_matrix.png",
        "image_overview.png",
        "learning_rate_curves.png",
        "memory_chart.png",
        "overfit_curve.png",
        "overfit_sheet.png",
        "class_locations.png",
        "group_scores_chart.png",
        "prediction_options_chart.png",
        "prediction_sheet.png",
        "reliability_chart.png",
        "sample_sheet.png",
        "series_overview.png",
        "object_size_chart.png",
        "split_comparison.png",
        "threshold_chart.png",
        "training_curves.png",
        "validation_sheet.png",
    }
    others = {"memory_estimate.json", "model_card.md", "point_chart.json", "report.html", "series.gif"}
    assert others <= {path.name for path in reporting.iterdir()}
    assert "report.html: open it in a browser" in process.stdout
    assert "mean Dice" in process.stdout
    assert "test_scores.json" in process.stdout


def test_the_dirty_inputs_are_all_found(smoke_run):
    folder = smoke_run.out.parent
    findings = pd.read_parquet(folder / "out" / "08_reporting" / "findings.parquet")
    assert list(findings) == ["image_id", "file", "row", "rule", "reason", "action"]
    dropped = findings[findings["action"] == "dropped"]
    assert sorted(dropped["rule"]) == ["duplicate_row", "missing_value", "row_without_file", "unreadable_image"]


def test_every_image_is_kept_or_in_the_findings(smoke_run):
    folder = smoke_run.out.parent
    files = len(list((folder / "raw").rglob("*.png")))
    manifest = pd.read_parquet(folder / "out" / "05_model_input" / "manifest.parquet")
    assert len(manifest) == files - 1  # the truncated one


def test_a_finished_run_is_taken_up_as_it_is(smoke_run, tmp_path):
    shutil.copytree(smoke_run.out, tmp_path / "out")
    process = kedro("--pipelines", "training", params=[f"data_root={tmp_path / 'out'}", f"raw_root={smoke_run.raw}"])
    assert "3 of 3 epochs are done" in process.stderr
    before = weights(smoke_run.out.parent)
    assert all(torch.equal(before[name], value) for name, value in weights(tmp_path).items())


@pytest.mark.slow
def test_a_run_killed_in_training_ends_with_the_weights_of_one_that_was_not(smoke_run, tmp_path):
    folder = smoke_run.out.parent
    shutil.copytree(
        folder / "out", tmp_path / "out", ignore=shutil.ignore_patterns("last.pt*", "checkpoint.pt*", "*scores*")
    )
    params = [f"data_root={tmp_path / 'out'}", f"raw_root={folder / 'raw'}"]
    command = [sys.executable, "-m", "kedro", "run", "--env", "smoke", "--pipelines", "training,evaluation"]
    command += ["--params", ",".join([*params, "tracking.enabled=false"])]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not (models(tmp_path) / "last.pt").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = torch.load(models(tmp_path) / "last.pt", weights_only=True)
    assert not saved["current"]["finished"]
    assert kedro("--pipelines", "training,evaluation", params=params).returncode == 0
    expected, found = weights(folder), weights(tmp_path)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    scores = [(where / "out" / "08_reporting" / "test_scores.json").read_text() for where in (folder, tmp_path)]
    assert scores[0] == scores[1]


def test_a_misspelt_parameter_stops_before_anything_runs(tmp_path):
    process = kedro(params=[*roots(tmp_path), "training.fit.epoch=3"])
    assert process.returncode == 1
    assert "training.fit.epoch: unknown parameter (found 3); did you mean `training.fit.epochs`?" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("env", "remedy"), [("uw_madison", "Kaggle competition"), ("camvid", "images/*.jpg"), ("abdomen", "train.csv")]
)
def test_a_missing_data_folder_says_what_to_download_and_where_to_put_it(env, remedy, tmp_path):
    process = kedro(env=env, params=roots(tmp_path))
    assert process.returncode == 1
    assert f"no file {tmp_path / 'raw'}" in process.stderr
    assert remedy in process.stderr
    assert "Traceback" not in process.stderr


def test_a_pipeline_names_what_it_needs_first(tmp_path):
    process = kedro("--pipelines", "evaluation", params=roots(tmp_path))
    assert process.returncode == 1
    assert f"checkpoint: no file {models(tmp_path) / 'checkpoint.pt'}" in process.stderr
    assert "run `kedro run --pipeline training --env smoke --params" in process.stderr


def processed(env, source, folder):
    """The manifest of real data, processed by configuration alone."""
    process = kedro(
        "--pipelines", "data_processing", env=env, params=[f"data_root={folder}", f"raw_root={SHARED / source}"]
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return pd.read_parquet(folder / "05_model_input" / "manifest.parquet")


def check(manifest, images, groups):
    assert (len(manifest), manifest["group"].nunique()) == (images, groups)
    assert manifest.groupby("group")["split"].nunique().max() == 1


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data is not beside this checkout")
@pytest.mark.parametrize("env", ["abdomen", "uw_madison"])
def test_real_scans_are_processed_by_configuration_alone(env, tmp_path):
    check(processed(env, "abdomen", tmp_path), images=152, groups=3)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data is not beside this checkout")
def test_binary_files_and_indexed_masks_of_camvid_give_one_manifest(tmp_path):
    binary = processed("camvid", "camvid", tmp_path / "binary")
    check(binary, images=204, groups=4)
    pd.testing.assert_frame_equal(binary, processed("camvid_indexed", "camvid", tmp_path / "indexed"))
