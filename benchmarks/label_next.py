"""Does choosing what to label, or adding pseudo-labels, help? Simulated on a data set whose masks are all known.

`python benchmarks/label_next.py select MANIFEST` labels a few images, then more in three rounds, chosen as the pipeline
`select` does (a) or at random (b), trains from scratch after each, and scores the test images; three seeds.
`python benchmarks/label_next.py pseudo MANIFEST` labels a tenth of the train images and compares training with the
pseudo-labels of the others (a) with training without (b). MANIFEST is data/05_model_input/manifest.parquet, of any data
set. Both trainings of a pair take the same number of steps. BENCH_STEPS and BENCH_SIZE set their length and image size.
"""

import json
import logging
import math
import os
import sys
from collections import deque

import numpy as np
import pandas as pd
import torch
from scipy import stats

from seg_pipeline.segmentation.export.validation import mean_dice, predicted_masks
from seg_pipeline.segmentation.inference.label_next import rank_images
from seg_pipeline.segmentation.inference.unlabelled import describe_images, pseudo_labels
from seg_pipeline.segmentation.manifest.table import class_names, spread, with_pseudo_labels
from seg_pipeline.segmentation.prediction.checkpoint_predictor import checkpoint_predictor
from seg_pipeline.segmentation.settings.training import (
    ComputeSettings,
    FitSettings,
    InputSettings,
    ModelSettings,
    OptimizerSettings,
    SamplingSettings,
    ScoreSettings,
)
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.run import train

CPU = torch.device("cpu")
STEPS, SIZE = int(os.environ.get("BENCH_STEPS", "150")), int(os.environ.get("BENCH_SIZE", "64"))
BATCH = 8
ROUNDS = 3
SEEDS = (1, 2, 3)
PER_ROUND = 10
NUM_TEST, NUM_VAL = 120, 8
SCORES = ScoreSettings()


def main(what: str, path: str) -> None:
    logging.disable(logging.WARNING)
    rows = pd.read_parquet(path)
    overlapping = (rows["overlaps"] != "").any()
    simulate = {"select": simulate_selection, "pseudo": simulate_pseudo_labels}[what]
    pairs = [pair for seed in SEEDS for pair in simulate(rows, "multilabel" if overlapping else "multiclass", seed)]
    table = pd.DataFrame(pairs)
    for place, part in table.groupby("round"):
        told({"round": place, "a": part["a"].mean(), "b": part["b"].mean(), "gain": (part["a"] - part["b"]).mean()})
    gains = (table["a"] - table["b"]).groupby(table["seed"]).mean()
    low, high = stats.t.interval(0.95, len(gains) - 1, gains.mean(), gains.std() / math.sqrt(len(gains)))
    told({"name": f"{what}: gain in mean Dice over {len(gains)} seeds", "gain": gains.mean(), "interval": [low, high]})


def told(values: dict) -> None:
    print(json.dumps(values, default=float), flush=True)


def simulate_selection(rows: pd.DataFrame, task: str, seed: int) -> list[dict]:
    """The Dice of both strategies after each round; both start with the same random images."""
    pool, rng, pairs = rows[rows["split"] == "train"], np.random.default_rng(seed), []
    first = rng.choice(pool.index, PER_ROUND, replace=False)
    labelled = {"a": list(first), "b": list(first)}
    model, _ = fitted(rows, pool.loc[first], task, seed)
    for number in range(1, ROUNDS + 1):
        rest = {name: pool.drop(index=taken) for name, taken in labelled.items()}
        about = {"device": CPU, "temperatures": None, "workers": 0}
        known = describe_images(pool.loc[labelled["a"]], model, **about)
        ranked = rank_images(
            describe_images(rest["a"], model, **about), known, number=PER_ROUND, disagreement_weight=0.5
        )
        chosen = ranked.loc[ranked["rank"].notna(), "image_id"]
        labelled["a"] += list(pool.index[pool["image_id"].isin(chosen)])
        labelled["b"] += list(rng.choice(rest["b"].index, PER_ROUND, replace=False))
        model, dice = fitted(rows, pool.loc[labelled["a"]], task, seed)
        pair = {"seed": seed, "round": number, "labelled": len(labelled["a"]), "a": dice}
        pair["b"] = fitted(rows, pool.loc[labelled["b"]], task, seed)[1]
        told(pair)
        pairs.append(pair)
    return pairs


def simulate_pseudo_labels(rows: pd.DataFrame, task: str, seed: int) -> list[dict]:
    """The Dice with a tenth of the labels, with and without pseudo-labels of the other train images."""
    pool = rows[rows["split"] == "train"]
    labelled = pool.sample(max(PER_ROUND, len(pool) // 10), random_state=seed)
    model, plain = fitted(rows, labelled, task, seed)
    rest, held_out = pool.drop(index=labelled.index), rows[rows["split"] != "train"]
    about = {"device": CPU, "postprocessing": None, "confidence": 0.95, "workers": 0}
    found = pseudo_labels(rest, model, held_out, **about)
    pair = {"seed": seed, "round": 1, "labelled": len(labelled), "pseudo": len(found), "b": plain, "a": plain}
    if len(found):
        pair["a"] = fitted(rows, with_pseudo_labels(labelled, found), task, seed)[1]
    told(pair)
    return [pair]


def fitted(rows: pd.DataFrame, labelled: pd.DataFrame, task: str, seed: int) -> tuple[dict, float]:
    """A model trained from scratch on ``labelled``, and its mean Dice on test images."""
    names = tuple(class_names(rows))
    epochs = max(1, round(STEPS * BATCH / len(labelled)))
    config = TrainingConfig(
        task=task,
        classes=names,
        background=task == "multiclass",
        model=ModelSettings(decoder_channels=(64, 32, 16, 16)),
        input=InputSettings(size=(SIZE, SIZE), channels="rgb", normalisation="percentile"),
        sampling=SamplingSettings(batch_size=BATCH),
        optimizer=OptimizerSettings(learning_rate=6e-3),
        fit=FitSettings(epochs=epochs, validate_every=epochs, compile=False),
        scores=SCORES,
        seed=seed,
    )
    val = spread(rows[rows["split"] == "val"], NUM_VAL)
    used = pd.concat([labelled, val.reindex(columns=list(labelled))], ignore_index=True)
    (last,) = deque(train(used, config, ComputeSettings(device="cpu", cache="ram", save_minutes=None)), maxlen=1)
    test = spread(rows[rows["split"] == "test"], NUM_TEST)
    predictor = checkpoint_predictor(last.best, device=CPU)
    return last.best, mean_dice(predicted_masks(predictor, test, batch_size=BATCH), test, SCORES)


if __name__ == "__main__":
    main(*sys.argv[1:])
