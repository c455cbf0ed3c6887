"""Check 1: what goes into the untrained network, and what comes out."""

import math

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seg_pipeline.segmentation.data.datasets import make_dataset
from seg_pipeline.segmentation.data.loaders import collate
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.losses import default_terms, make_loss
from seg_pipeline.segmentation.manifest.table import spread
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.settings.search import SanityCheckSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import autocast, pick_precision

LARGEST_INPUT, LEAST_DEVIATION = 10.0, 0.02
"""Bounds for normalised values: the largest mean, and the least standard deviation within an image."""


def plain_dataset(rows: pd.DataFrame, config: TrainingConfig) -> Dataset:
    return make_dataset(rows, config.input, task=config.task, background=config.background, objects=config.objects)


@torch.inference_mode()
def initial_loss(
    manifest: pd.DataFrame, config: TrainingConfig, device: torch.device, settings: SanityCheckSettings
) -> dict:
    """Loss of the untrained network in training mode on evenly spaced training images, with likely causes if wrong."""
    train = manifest[manifest["split"] == "train"]
    picked = spread(train, settings.num_images)
    dataset = plain_dataset(picked, config)
    images, truth = (part.to(device) for part in collate([dataset[index] for index in range(len(picked))]))
    torch.manual_seed(config.seed)
    model = Segmenter(config, pretrained=True).to(device).train()
    with autocast(device, pick_precision(config.fit.precision, device)):
        logits = model(images)
    terms = initial_terms(logits.float(), model.seen(truth), config, settings.tolerance)
    seen = input_report(images, model)
    classes = mask_report(truth, config)
    causes = [*_input_causes(seen), *_mask_causes(classes, settings.most_covered), *_term_causes(terms, logits)]
    return {
        "passed": not causes,
        "causes": causes,
        "num_images": len(picked),
        "terms": terms,
        "input": seen,
        "classes": classes,
    }


def initial_terms(logits: Tensor, truth: Tensor, config: TrainingConfig, tolerance: float) -> list[dict]:
    """Each loss term, measured and expected. Expected is its value if every logit is 0.

    An untrained head predicts about equal probabilities, so a term far from that value means wrong labels, an extra
    activation or bad normalisation. The value is ln 2 for bce and ln K for ce, whatever the masks; these times
    (1 - p)^gamma for focal; 1 for multilabel Lovász; for Dice and Tversky it depends on the masks of the batch.
    """
    rows = []
    for name in config.loss.terms or default_terms(config.task):
        loss = make_loss(
            config.task,
            terms={str(name): 1.0},
            class_weights=config.channel_weights,
            focal_gamma=config.loss.focal_gamma,
            tversky_beta=config.loss.tversky_beta,
            background=config.background,
        )
        found, expected = loss(logits, truth).item(), loss(torch.zeros_like(logits), truth).item()
        ok = math.isfinite(found) and abs(found - expected) <= tolerance * max(expected, 0.05)
        rows.append(
            {"term": name, "found": found, "expected": expected, "formula": _formula(str(name), config), "passed": ok}
        )
    return rows


def _formula(term: str, config: TrainingConfig) -> str:
    channels = config.num_channels
    known = {"bce": "ln 2", "ce": f"ln {channels}", "lovasz": "1 for logits of 0"}
    if term == "focal":
        part = "1/2" if config.task == "multilabel" else f"{channels - 1}/{channels}"
        return f"({part})^{config.loss.focal_gamma:g} ln {2 if config.task == 'multilabel' else channels}"
    return known.get(term, f"of every probability at 1/{2 if config.task == 'multilabel' else channels}")


def input_report(images: Tensor, model: Segmenter) -> dict:
    """Mean and standard deviation of the normalised values, and the number of constant images."""
    values = (images.float() / 255 - model.mean) / model.std
    within = values.std(dim=(-2, -1)).amax(1)
    return {
        "mean": values.mean().item(),
        "deviation": values.std().item(),
        "num_images": len(images),
        "constant": int((within < LEAST_DEVIATION).sum()),
    }


def mask_report(truth: Tensor, config: TrainingConfig) -> list[dict]:
    """Per class: mean share of the labelled pixels in the image and in its border, over the images with the class.

    Border pixels tell an inverted mask from a large object: few objects fill the border.
    """
    rows = []
    for index, name in enumerate(config.classes):
        if config.task == "multilabel":
            shown, known = truth[:, index] == 1, truth[:, index] != IGNORE
        else:
            shown, known = truth == index + int(config.background), truth != IGNORE
        covered = shown.sum((-2, -1)) / known.sum((-2, -1)).clamp(min=1)
        border = _border(shown).float().sum(-1) / _border(known).float().sum(-1).clamp(min=1)
        there = covered > 0
        rows.append(
            {
                "class": name,
                "num_images": int(there.sum()),
                "covered": _mean(covered[there]),
                "border": _mean(border[there]),
            }
        )
    return rows


def _border(masks: Tensor) -> Tensor:
    return torch.cat([masks[:, 0], masks[:, -1], masks[:, 1:-1, 0], masks[:, 1:-1, -1]], dim=1)


def _mean(values: Tensor) -> float:
    return values.float().mean().item() if len(values) else 0.0


def _input_causes(seen: dict) -> list[str]:
    if seen["constant"] > seen["num_images"] // 2:
        return [
            f"{seen['constant']} of {seen['num_images']} images are constant after normalisation: are the files "
            "empty, or do `training.input.normalisation` and `window` clip all values?"
        ]
    if abs(seen["mean"]) > LARGEST_INPUT or not LEAST_DEVIATION < seen["deviation"] < LARGEST_INPUT:
        return [
            f"normalised values have mean {seen['mean']:.2g} and deviation {seen['deviation']:.2g}, expected about 0 "
            "and 1: bad normalisation, see `training.input`"
        ]
    return []


def _mask_causes(classes: list[dict], most: float) -> list[str]:
    causes = []
    if not any(one["num_images"] for one in classes):
        causes.append("no image has a mask of any class: do the mask values match `dataset.classes`?")
    causes += [
        f"{one['class']} covers {one['covered']:.0%} of the images with this class and {one['border']:.0%} of their "
        "border: are its masks inverted? If they are right, set `hparam_search.sanity_checks.most_covered: 1`"
        for one in classes
        if one["covered"] > most and one["border"] > most
    ]
    return causes


def _term_causes(terms: list[dict], logits: Tensor) -> list[str]:
    wrong = [one for one in terms if not one["passed"]]
    if not wrong:
        return []
    said = ", ".join(f"{one['term']} is {one['found']:.3g}, expected {one['expected']:.3g}" for one in wrong)
    squashed = logits.min() >= 0 and logits.max() <= 1
    why = (
        "the network ends in an activation (its output is within 0 to 1), and the loss applies another"
        if squashed
        else "labels other than 0 and 1, an activation before the loss, values that are not normalised, or weights "
        "that are not of an untrained head"
    )
    return [f"unexpected loss of the untrained network: {said}. Likely: {why}"]
