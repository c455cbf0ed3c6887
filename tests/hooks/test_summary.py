from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.summary import (
    SummaryHooks,
    bundle_lines,
    duration,
    file_lines,
    finding_lines,
    score_lines,
    unpredicted_lines,
)
from seg_pipeline.hooks.tracking import TrackingHooks
from seg_pipeline.params import InferenceParams
from seg_pipeline.segmentation.prediction.bundle import File

SCORES = {
    "mean_dice": 0.8126,
    "mean_iou": 0.7,
    "aggregation": "image",
    "empty_policy": "skip",
    "num_images": 64,
    "classes": {"large_bowel": {"dice": 0.9, "iou": 0.8}, "liver": {"dice": None, "iou": float("nan")}},
}
FINDINGS = pd.DataFrame(
    {
        "image_id": ["a", "b", None, "c", "c"],
        "rule": ["rle_range", "no_file", "unreadable", "rle_range", "rle_range"],
        "action": ["repaired", "dropped", "dropped", "repaired", "dropped"],
    }
)


def run(root: Path, outputs: list[str], capsys: Any, tracking: TrackingHooks | None = None, **run_params: Any) -> str:
    """What a run that made these outputs prints."""
    files = {
        "test_scores": ("json.JSONDataset", "data/08_reporting/test_scores.json"),
        "findings": ("pandas.ParquetDataset", "data/08_reporting/findings.parquet"),
        "checkpoint": ("seg_pipeline.datasets.checkpoint.CheckpointDataset", "data/06_models/checkpoint.pt"),
        "manifest": ("pandas.ParquetDataset", "data/05_model_input/manifest.parquet"),
        "report": ("text.TextDataset", "data/08_reporting/report.html"),
    }
    catalog = DataCatalog.from_config(
        {name: {"type": kind, "filepath": str(root / path)} for name, (kind, path) in files.items()}
    )
    for name, value in (("test_scores", SCORES), ("findings", FINDINGS)):
        if name in outputs:
            catalog.save(name, value)
    for name in {"checkpoint", "report"} & set(outputs):
        file = root / files[name][1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    pipeline = Pipeline([Node(lambda: None, None, [*outputs, "in_memory"], name="make")])
    hooks = SummaryHooks(tracking)
    hooks.before_pipeline_run()
    hooks.after_pipeline_run({"project_path": str(root), **run_params}, pipeline, catalog)
    return capsys.readouterr().out


def test_the_whole_summary(tmp_path, capsys, monkeypatch):
    clock = iter([100.0, 223.4])
    monkeypatch.setattr("seg_pipeline.hooks.summary.time.monotonic", lambda: next(clock))
    tracking = TrackingHooks()
    tracking.where = "run 1a2b in experiment 'camvid'; view it with: mlflow ui --backend-store-uri sqlite:///mlflow.db"
    made = ["test_scores", "findings", "checkpoint", "manifest"]
    text = run(tmp_path, made, capsys, tracking, pipeline_names=["training", "evaluation"], env="camvid")
    assert text.splitlines() == [
        "",
        "Pipeline training, evaluation in environment camvid: finished in 2 min 3 s",
        "  scores    mean Dice 0.813, mean IoU 0.700 over 64 images (aggregation: image, empty policy: skip)",
        "              large_bowel  Dice 0.900  IoU 0.800",
        "              liver        Dice n/a  IoU n/a",
        "  findings  5: 3 dropped, 2 repaired",
        "              rle_range   2 repaired",
        "              no_file     1 dropped",
        "              unreadable  1 dropped",
        "              rle_range   1 dropped",
        "  files     data/06_models: checkpoint.pt",
        "            data/08_reporting: findings.parquet, test_scores.json",
        "  tracked   run 1a2b in experiment 'camvid'; view it with: mlflow ui --backend-store-uri sqlite:///mlflow.db",
        "",
    ]


def test_a_run_without_results_shows_only_its_time(tmp_path, capsys):
    text = run(tmp_path, ["manifest"], capsys, TrackingHooks(), pipeline_names=[], env=None)
    assert text == "\nPipeline default: finished in 0.0 s\n\n"


def test_results_of_an_earlier_run_are_not_shown(tmp_path, capsys):
    run(tmp_path, ["test_scores", "findings"], capsys)
    assert "mean Dice" not in run(tmp_path, ["checkpoint"], capsys)


def test_results_that_are_no_longer_there_are_left_out(tmp_path, capsys):
    catalog = DataCatalog({"test_scores": MemoryDataset(), "findings": MemoryDataset()})  # freed after their last use
    pipeline = Pipeline([Node(lambda: None, None, ["test_scores", "findings"], name="make")])
    SummaryHooks().after_pipeline_run({"project_path": str(tmp_path)}, pipeline, catalog)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_many_classes_are_cut():
    of_class = {f"class{number:02d}": {"dice": 0.5, "iou": 0.25} for number in range(15)}
    lines = list(score_lines({**SCORES, "classes": of_class}))
    assert len(lines) == 14
    assert lines[12:] == ["  class11  Dice 0.500  IoU 0.250", "  and 3 more classes"]


def test_no_findings_and_many():
    assert list(finding_lines(FINDINGS.iloc[:0])) == ["none; all inputs are valid"]
    rules = [f"rule{number}" for number in range(10)]
    lines = list(finding_lines(pd.DataFrame({"rule": rules, "action": "flagged"})))
    assert lines[0] == "10: 10 flagged"
    assert lines[8:] == ["  rule7  1 flagged", "  and 2 more rules"]


def test_files_outside_the_project_keep_their_whole_path():
    project = Path("/home/me/project")
    files = [Path("/out/06_models/last.pt"), project / "data/08_reporting/b.png", Path("/out/06_models/last.pt")]
    assert list(file_lines(files, project)) == ["data/08_reporting: b.png", "/out/06_models: last.pt"]


def test_long_lists_of_files_are_wrapped():
    files = [Path(f"/p/data/08_reporting/a_rather_long_name-of-figure{number}.png") for number in range(5)]
    lines = list(file_lines(files, Path("/p")))
    assert max(map(len, lines)) <= 100
    assert " ".join(line.strip() for line in lines).count("a_rather_long_name-of-figure") == 5
    assert lines[1].startswith("  a_rather_long_name-of-figure")


def test_figures_and_tables_of_a_full_folder_are_counted():
    names = [
        "report.html",
        "model_card.md",
        "series.gif",
        "a.parquet",
        *(f"{number}.png" for number in range(6)),
    ]
    lines = list(file_lines([Path("/p/data/08_reporting") / name for name in names], Path("/p")))
    assert lines == ["data/08_reporting: model_card.md, report.html, 7 figures, 1 table"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.4, "59.4 s"), (59.96, "1 min 0 s"), (75.4, "1 min 15 s"), (3600 * 5 + 125, "5 h 2 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_an_export_says_where_the_model_is_and_how_to_use_it(tmp_path):
    files = {"onnx": File("model.onnx", "", 15_700_000), "int8": File("model.int8.onnx", "", 4_460_000)}
    network = SimpleNamespace(files=files)
    bundle = SimpleNamespace(folder=tmp_path / "data/bundle", networks=[network, network], formats=list(files))
    assert list(bundle_lines(bundle, tmp_path)) == [
        "data/bundle: onnx 31.4 MB, int8 8.9 MB",
        "use it:   seg-pipeline predict IMAGES --model data/bundle --out masks",
        "serve it: seg-pipeline serve --model data/bundle",
    ]


def test_an_inference_says_how_many_images_it_predicted_and_where(tmp_path, capsys):
    catalog = DataCatalog(
        {
            "inference.inference_areas": MemoryDataset(pd.DataFrame({"image_id": ["a", "a", "b", "b"]})),
            "inference.inference_findings": MemoryDataset(pd.DataFrame({"reason": ["c.png: no such file"]})),
            "inference.inference_folder": MemoryDataset(tmp_path / "data/inference"),
            "params:inference": MemoryDataset(InferenceParams()),
        }
    )
    outputs = ["inference.inference_areas", "inference.inference_findings"]
    pipeline = Pipeline([Node(lambda: None, None, outputs, name="make", namespace="inference")])
    SummaryHooks().after_pipeline_run({"project_path": str(tmp_path)}, pipeline, catalog)
    assert capsys.readouterr().out.splitlines()[2:5] == [
        "  inference 2 of 3 images predicted -> data/inference (masks, overlays, rle)",
        "            1 image could not be predicted:",
        "              c.png: no such file",
    ]


def test_the_report_is_named_where_there_is_one(tmp_path, capsys):
    text = run(tmp_path, ["report"], capsys)
    assert "  report    data/08_reporting/report.html: open it in a browser" in text


@pytest.mark.parametrize(
    ("number", "lines"),
    [
        (0, []),
        (1, ["1 image could not be predicted:", "  0.png: no such file"]),
        (
            5,
            [
                "5 images could not be predicted:",
                *(f"  {one}.png: no such file" for one in range(3)),
                "  and 2 more, listed in findings.csv beside the masks",
            ],
        ),
    ],
)
def test_images_that_could_not_be_predicted_are_counted(number, lines):
    findings = pd.DataFrame({"reason": [f"{one}.png: no such file" for one in range(number)]})
    assert list(unpredicted_lines(findings)) == lines


def test_a_class_that_few_images_show_is_scored_in_them():
    classes = {"ship": {"dice": 0.9, "iou": 0.8, "num_images": 3}, "sea": {"dice": 1.0, "iou": 1.0, "num_images": 12}}
    lines = list(score_lines({"num_images": 12, "classes": classes}))
    assert lines[1:] == ["  ship  Dice 0.900  IoU 0.800  in 3 of them", "  sea   Dice 1.000  IoU 1.000"]
