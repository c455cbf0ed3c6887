"""`kedro run`: the smoke environment from raw files to scores, and what breaks it.

Where no exit code is asked for and nothing is killed, a session runs in this process, which saves importing torch.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from seg_pipeline.hooks.errors import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


def run(*pipelines, env="smoke", data_root, raw_root):
    """Run pipelines, all if none is named, with the given folders and without tracking."""
    bootstrap_project(ROOT)
    params = {"data_root": str(data_root), "raw_root": str(raw_root), "tracking": {"enabled": False}}
    with KedroSession.create(ROOT, env=env, runtime_params=params) as session:
        session.run(pipeline_names=list(pipelines) or None)


def weights(out):
    return torch.load(out / "06_models" / "last.pt", weights_only=True)["current"]["model"]


def test_a_run_ends_with_scores_and_all_its_artifacts(smoke_run):
    process = smoke_run.process
    assert process.returncode == 0, process.stderr[-3000:]
    reporting = smoke_run.out / "08_reporting"
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
    findings = pd.read_parquet(smoke_run.out / "08_reporting" / "findings.parquet")
    assert list(findings) == ["image_id", "file", "row", "rule", "reason", "action"]
    dropped = findings[findings["action"] == "dropped"]
    assert sorted(dropped["rule"]) == ["duplicate_row", "missing_value", "row_without_file", "unreadable_image"]


def test_every_image_is_kept_or_in_the_findings(smoke_run):
    files = len(list(smoke_run.raw.rglob("*.png")))
    manifest = pd.read_parquet(smoke_run.out / "05_model_input" / "manifest.parquet")
    assert len(manifest) == files - 1  # the truncated one


def test_a_finished_training_is_not_trained_again(smoke_run, tmp_path, caplog):
    shutil.copytree(smoke_run.out, tmp_path / "out")
    run("training", data_root=tmp_path / "out", raw_root=smoke_run.raw)
    assert "3 of 3 epochs are done" in caplog.text
    before = weights(smoke_run.out)
    assert all(torch.equal(before[name], value) for name, value in weights(tmp_path / "out").items())


def test_a_misspelt_parameter_stops_the_command_before_anything_runs(tmp_path):
    params = f"data_root={tmp_path / 'out'},raw_root={tmp_path / 'raw'},training.fit.epoch=3"
    command = [sys.executable, "-m", "kedro", "run", "--env", "smoke", "--params", params]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert "training.fit.epoch: unknown parameter (found 3); did you mean `training.fit.epochs`?" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()


# tests/hooks/test_command_line.py holds that these errors end the command with exit code 1 and without a traceback.
@pytest.mark.parametrize(
    ("env", "remedy"), [("uw_madison", "Kaggle competition"), ("camvid", r"images/\*\.jpg"), ("abdomen", r"train\.csv")]
)
def test_a_missing_data_folder_says_what_to_download_and_where_to_put_it(env, remedy, tmp_path):
    raw = tmp_path / "raw"
    with pytest.raises(UserError, match=rf"(?s)no file {re.escape(str(raw))}.*{remedy}"):
        run(env=env, data_root=tmp_path / "out", raw_root=raw)


def test_a_pipeline_names_what_it_needs_first(tmp_path):
    missing = re.escape(str(tmp_path / "out" / "06_models" / "checkpoint.pt"))
    remedy = "run `kedro run --pipeline training --env smoke --params"
    with pytest.raises(UserError, match=rf"(?s)checkpoint: no file {missing}.*{remedy}"):
        run("evaluation", data_root=tmp_path / "out", raw_root=tmp_path / "raw")


def processed(env, source, folder):
    """The manifest of real data, processed by configuration alone; each group is in one split."""
    run("data_processing", env=env, data_root=folder, raw_root=SHARED / source)
    manifest = pd.read_parquet(folder / "05_model_input" / "manifest.parquet")
    assert manifest.groupby("group")["split"].nunique().max() == 1
    return manifest


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data is not beside this checkout")
@pytest.mark.parametrize("env", ["abdomen", "uw_madison"])
def test_real_scans_are_processed_by_configuration_alone(env, tmp_path):
    manifest = processed(env, "abdomen", tmp_path)
    assert (len(manifest), manifest["group"].nunique()) == (152, 3)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data is not beside this checkout")
def test_binary_files_and_indexed_masks_of_camvid_give_one_manifest(tmp_path):
    binary = processed("camvid", "camvid", tmp_path / "binary")
    assert (len(binary), binary["group"].nunique()) == (204, 4)
    pd.testing.assert_frame_equal(binary, processed("camvid_indexed", "camvid", tmp_path / "indexed"))
