"""Scores of training recipes on prepared data sets, several seeds each: python benchmarks/recipes.py RECIPES ROOT...

RECIPES is a JSON file: {name: {"all": {"fit.ema": 0.99}, "camvid": {"fit.epochs": 60}}}, with the settings that differ
from the data set's own, for all of them or by the name of the ROOT; {} is the data set's own recipe. ROOT is a
``data_root`` after `kedro run --pipelines data_processing,training --to-nodes training.choose_training_config`. Prints
one JSON object per run, with Dice and IoU of the validation and test split at the images' own size, without
postprocessing, and at the end a table of means and spreads. ``--workers 6`` runs six at once on one GPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from seg_pipeline.segmentation.manifest.table import class_names, read_masks
from seg_pipeline.segmentation.metrics.aggregation import Aggregator, defined_mean
from seg_pipeline.segmentation.metrics.overlap import Counts, concatenate, count
from seg_pipeline.segmentation.prediction.postprocessing import make_masks
from seg_pipeline.segmentation.prediction.predict_images import plain_masks, predict_each, used_models
from seg_pipeline.segmentation.settings.training import ComputeSettings, PredictSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import pick_device
from seg_pipeline.segmentation.training.run import train


def run(root: Path, name: str, changes: dict, seed: int, threads: int | None) -> dict:
    """Train one recipe and score it."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if threads:
        torch.set_num_threads(threads)
    changes = dict(changes)
    tta = changes.pop("tta", "none")
    manifest = pd.read_parquet(root / "05_model_input/manifest.parquet")
    saved = json.loads((root / "06_models/training_config.json").read_text())
    saved.pop("from_search", None)
    config = TrainingConfig.from_dict(saved).changed({**changes, "seed": seed})
    device = pick_device("auto")
    began = time.perf_counter()
    for moment in train(manifest, config, ComputeSettings(num_workers=0), cache_folder=root / "cache"):  # noqa: B007
        pass
    trained = time.perf_counter() - began
    result = {"data": root.name, "recipe": name, "seed": seed, "seconds": round(trained, 1)}
    result["best_epoch"] = int(moment.best["models"][0]["row"]["epoch"])
    models = used_models(moment.best, device, PredictSettings(tta=tta))
    names = class_names(manifest)

    def finish(row: dict, probabilities: torch.Tensor) -> Counts:
        masks = make_masks(probabilities.numpy(), plain_masks(config), task=config.task, background=config.background)
        return count(torch.from_numpy(masks)[None], torch.from_numpy(read_masks(row, names))[None])

    for split in ("val", "test"):
        rows = manifest[manifest["split"] == split]
        counts = predict_each(
            models, rows, finish, device=device, batch_size=8, settings=PredictSettings(tta=tta), workers=3
        )
        total = concatenate(list(counts))
        scores = Aggregator(config.scores.aggregation, config.scores.empty_policy, 0, seed)
        for score in ("dice", "iou"):
            result[f"{split}_{score}"] = round(float(defined_mean(scores.estimate(total, score, rows["group"])[0])), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path)
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="trainings at once")
    parser.add_argument("--threads", type=int, help="threads of each")
    parser.add_argument("--out", type=Path, help="file that gets the JSON lines")
    given = parser.parse_args()
    recipes: dict[str, dict] = json.loads(given.recipes.read_text())
    runs = []
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(run, root, name, changes.get(root.name, {}) | changes.get("all", {}), seed, given.threads)
            for seed in range(given.seeds)
            for root in given.roots
            for name, changes in recipes.items()
            if root.name in changes.get("only", [root.name])
        ]
        for future in as_completed(futures):
            try:
                found = future.result()
            except Exception as error:  # the others go on  # noqa: BLE001
                print("failed:", repr(error)[:300], flush=True)
                continue
            runs.append(found)
            print(json.dumps(found), flush=True)
            if given.out:
                given.out.write_text("".join(json.dumps(one) + "\n" for one in runs))
    table = pd.DataFrame(runs).drop(columns="seed").groupby(["data", "recipe"]).agg(["mean", "std"])
    with pd.option_context("display.width", 200, "display.max_columns", 30):
        print(table.round(4).to_string())


if __name__ == "__main__":
    main()
