"""Check 2: overfit a few images, then test whether the network has learned anything about other images."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.exploration.contact_sheets import input_to_rgb, target_to_masks
from seg_pipeline.segmentation.manifest.table import class_names, data_hash, spread
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.plotting.contact_sheets import plot_predictions
from seg_pipeline.segmentation.search.initial_loss import plain_dataset
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.search import SanityCheckSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import autocast, pick_device, pick_precision
from seg_pipeline.segmentation.training.epoch import fit
from seg_pipeline.segmentation.training.processes import TrainingFailed
from seg_pipeline.segmentation.training.state import TrainState, start

VALIDATE_EVERY = 10
NUM_PERMUTATIONS = 1999
MAX_PAIRED, MIN_PAIRED = 64, 8
"""Most and fewest images of the permutation test; with fewer, no order is rare enough to be significant."""
MAX_SHOWN = 6
PAIRING_SIDE = 32
"""Side of the grid on which masks and predictions are compared."""


def overfit(
    rows: pd.DataFrame, config: TrainingConfig, compute: ComputeSettings, settings: SanityCheckSettings
) -> tuple[dict, TrainState | None, Dataset]:
    """Train on a few images, all in every step, until ``overfit_dice`` or ``overfit_steps`` is reached.

    Returns the numbers for the report, the trained state (None if training failed) and the images.
    """
    device = pick_device(compute.device)
    overfit_config = config.changed(
        {
            "sampling.batch_size": len(rows),
            "sampling.oversampling": "none",
            "sampling.mix": "none",
            "optimizer.schedule": "constant",
            "optimizer.weight_decay": 0.0,
            "fit.epochs": settings.overfit_steps,
            "fit.validate_every": VALIDATE_EVERY,
            "fit.max_minutes": None,
            "fit.patience": None,
            "fit.ema": 0.0,
        }
    )
    both_splits = pd.concat([rows.assign(split="train"), rows.assign(split="val")])
    in_memory = replace(compute, cache="ram", num_workers=0, devices=1, nodes=1)
    state = start(overfit_config, data_hash(both_splits), device)
    loaders = make_loaders(both_splits, overfit_config, in_memory, device=device)
    result: dict[str, Any] = {"num_images": len(rows), "image_ids": rows["image_id"].tolist(), "failure": ""}
    try:
        steps = progress_bar(fit(state, loaders), total=settings.overfit_steps, title="overfitting", unit="steps")
        for row in steps:
            if row is not None and row["val_dice"] >= settings.overfit_dice:
                break
    except TrainingFailed as error:
        result["failure"] = str(error)
    validated = [row for row in state.history if not math.isnan(row["val_dice"])]
    result |= {
        "steps": len(state.history),
        "dice": max((row["val_dice"] for row in validated), default=0.0),
        "expected": settings.overfit_dice,
        "curve": [
            {
                "step": row["epoch"],
                "loss": row["train_loss"],
                "dice": None if math.isnan(row["val_dice"]) else row["val_dice"],
            }
            for row in state.history
        ],
    }
    return result, None if result["failure"] else state, plain_dataset(rows, overfit_config)


@torch.inference_mode()
def pairing(unseen: pd.DataFrame, state: TrainState, settings: SanityCheckSettings, *, overfitted: bool) -> dict:
    """Permutation test: do predictions on unseen images fit their own masks better than other images' masks?

    A network can memorise shuffled masks, so a high Dice does not show that images and masks belong together. This test
    does. Its p-value is the fraction of random orders of the masks that fit the predictions at least as well as the
    actual order, by cross-entropy. Shuffled masks are just another random order, so their p-value is uniform in 0..1.
    """
    labelled = unseen[(unseen[[f"area_{name}" for name in class_names(unseen)]] > 0).any(axis=1)]
    if reason := _reason_to_skip(len(labelled), overfitted, settings):
        return {"pairing": None, "pairing_images": len(labelled), "pairing_note": reason}
    picked = spread(labelled, MAX_PAIRED)
    model = state.model.eval()
    dataset = plain_dataset(picked, state.config)
    masks = torch.stack([_coarse(dataset[index][1], state.config) for index in range(len(picked))]).flatten(1)
    log_probs = torch.stack(
        [_log_probability(model, state, dataset[index][0]) for index in range(len(picked))]
    ).flatten(1)
    p_value = permutation_p((log_probs @ masks.T).double().numpy(), seed=state.config.seed)
    return {"pairing": p_value, "pairing_images": len(picked), "pairing_note": ""}


def _reason_to_skip(number: int, overfitted: bool, settings: SanityCheckSettings) -> str:
    if settings.pairing is None:
        return "`pairing` is null"
    if not overfitted:
        return "the images were not overfitted"
    return f"it needs {MIN_PAIRED} unseen images with a class, found {number}" if number < MIN_PAIRED else ""


def _log_probability(model: Segmenter, state: TrainState, image: Tensor) -> Tensor:
    """Mean log-probability of each channel in each grid cell, with the channels in the order of ``_coarse``."""
    logits = predict(model, state, image).cpu()
    multilabel = state.config.task == "multilabel"
    log_prob = F.logsigmoid(torch.stack([-logits, logits])) if multilabel else logits.log_softmax(0)
    return F.adaptive_avg_pool2d(log_prob, PAIRING_SIDE)


def predict(model: Segmenter, state: TrainState, image: Tensor) -> Tensor:
    with autocast(state.device, pick_precision(state.config.fit.precision, state.device)):
        return model(image[None].to(state.device))[0].float()


def _coarse(truth: Tensor, config: TrainingConfig) -> Tensor:
    """Share of pixels per channel and grid cell: multilabel (2, C, h, w), absent then present; else (K, h, w)."""
    truth = truth.as_subclass(Tensor)
    if config.task == "multilabel":
        shares = torch.stack([truth == 0, truth == 1])
    else:
        shares = truth == torch.arange(config.num_channels)[:, None, None]
    return F.adaptive_avg_pool2d(shares.float(), PAIRING_SIDE)


def permutation_p(fits: np.ndarray, *, seed: int) -> float:
    """p-value of the actual order of masks among random orders; at least 1 in 2000.

    ``fits`` (N, N) holds how well prediction i (row) fits mask j (column); the diagonal is the actual order.
    """
    rng, indices = np.random.default_rng(seed), np.arange(len(fits))
    observed = np.trace(fits)
    permuted = [fits[indices, rng.permutation(len(fits))].sum() for _ in range(NUM_PERMUTATIONS)]
    return (1 + int((np.array(permuted) >= observed - 1e-9 * abs(observed)).sum())) / (1 + NUM_PERMUTATIONS)


def verdict(result: dict, settings: SanityCheckSettings) -> dict:
    """Whether the check passed, and the likely causes if it did not."""
    causes = []
    if result["failure"]:
        causes.append(f"training failed: {result['failure']}")
    elif result["dice"] < settings.overfit_dice:
        causes.append(
            f"Dice {result['dice']:.3f} after {result['steps']} steps on {result['num_images']} images, expected "
            f"{settings.overfit_dice:g}. Likely: a learning rate that is too low or too high, masks too fine for "
            "`training.input.size` or `decoder_channels`, equal images with different masks, or too few steps "
            "(`hparam_search.sanity_checks.overfit_steps`); overfit_sheet.png shows the masks that were not fitted"
        )
    p_value = result.get("pairing")
    if p_value is not None and settings.pairing is not None and p_value > settings.pairing:
        causes.append(
            f"predictions on {result['pairing_images']} other images fit their own masks no better than shuffled masks "
            f"(p = {p_value:.3f}, expected at most {settings.pairing:g}). Likely: masks that belong to other images; "
            "otherwise images too different to learn from so few (raise "
            "`hparam_search.sanity_checks.overfit_images`, or set `pairing: null`)"
        )
    return {"passed": not causes, "causes": causes}


@torch.inference_mode()
def overfit_sheet(rows: pd.DataFrame, dataset: Dataset, state: TrainState | None, config: TrainingConfig) -> Figure:
    """Contact sheet of the overfitted images as the network sees them, with ground truth and prediction."""
    num_shown = min(len(rows), MAX_SHOWN)
    samples = [dataset[index] for index in range(num_shown)]
    truths = [target_to_masks(truth.numpy(), config) for _, truth in samples]
    if state is None:
        predictions = [np.zeros_like(truth) for truth in truths]
    else:
        model = state.model.eval()
        logits = [predict(model, state, image)[None] for image, _ in samples]
        predictions = [
            model.masks(image_logits, threshold=config.scores.threshold)[0].cpu().numpy() for image_logits in logits
        ]
    return plot_predictions(
        [input_to_rgb(image.numpy()) for image, _ in samples],
        truths,
        predictions,
        rows["image_id"].head(num_shown).tolist(),
        list(config.classes),
        title="Overfitting check: predictions on the few images trained on\nshould match the ground truth",
    )
