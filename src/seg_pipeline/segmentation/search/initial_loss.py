"""Check 1: input and loss of the untrained network."""

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

MAX_INPUT, MIN_DEVIATION = 10.0, 0.02
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
    terms = initial_terms(logits.float(), model.subsample(truth), config, settings.tolerance)
    inputs = input_report(images, model)
    classes = mask_report(truth, config)
    causes = [*_input_causes(inputs), *_mask_causes(classes, settings.most_covered), *_term_causes(terms, logits)]
    return {
        "passed": not causes,
        "causes": causes,
        "num_images": len(picked),
        "terms": terms,
        "input": inputs,
        "classes": classes,
    }


def initial_terms(logits: Tensor, truth: Tensor, config: TrainingConfig, tolerance: float) -> list[dict]:
    """Each loss term, measured and expected. Expected is its value if every logit is 0.

    An untrained head predicts about equal probabilities, so a term far from that value means wrong labels, an extra
    activation or bad normalisation. For any masks, the value is ln 2 for bce and ln K for ce, and (1 - p)^gamma times
    these for focal; it is 1 for multilabel Lovász, and depends on the masks for Dice and Tversky.
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
        measured, expected = loss(logits, truth).item(), loss(torch.zeros_like(logits), truth).item()
        ok = math.isfinite(measured) and abs(measured - expected) <= tolerance * max(expected, 0.05)
        rows.append(
            {
                "term": name,
                "found": measured,
                "expected": expected,
                "formula": _formula(str(name), config),
                "passed": ok,
            }
        )
    return rows


def _formula(term: str, config: TrainingConfig) -> str:
    channels = config.num_channels
    formulas = {"bce": "ln 2", "ce": f"ln {channels}", "lovasz": "1 for logits of 0"}
    if term == "focal":
        share = "1/2" if config.task == "multilabel" else f"{channels - 1}/{channels}"
        return f"({share})^{config.loss.focal_gamma:g} ln {2 if config.task == 'multilabel' else channels}"
    return formulas.get(term, f"of every probability at 1/{2 if config.task == 'multilabel' else channels}")


def input_report(images: Tensor, model: Segmenter) -> dict:
    """Mean and standard deviation of the normalised values, and the number of constant images."""
    values = (images.float() / 255 - model.mean) / model.std
    within = values.std(dim=(-2, -1)).amax(1)
    return {
        "mean": values.mean().item(),
        "deviation": values.std().item(),
        "num_images": len(images),
        "constant": int((within < MIN_DEVIATION).sum()),
    }


def mask_report(truth: Tensor, config: TrainingConfig) -> list[dict]:
    """Per class: mean share of the class in the labelled pixels of the image and of its border, over its images.

    The border distinguishes an inverted mask from a large object: few objects fill it.
    """
    rows = []
    for index, name in enumerate(config.classes):
        if config.task == "multilabel":
            positive, known = truth[:, index] == 1, truth[:, index] != IGNORE
        else:
            positive, known = truth == index + int(config.background), truth != IGNORE
        covered = positive.sum((-2, -1)) / known.sum((-2, -1)).clamp(min=1)
        border = _border(positive).float().sum(-1) / _border(known).float().sum(-1).clamp(min=1)
        present = covered > 0
        rows.append(
            {
                "class": name,
                "num_images": int(present.sum()),
                "covered": _mean(covered[present]),
                "border": _mean(border[present]),
            }
        )
    return rows


def _border(masks: Tensor) -> Tensor:
    return torch.cat([masks[:, 0], masks[:, -1], masks[:, 1:-1, 0], masks[:, 1:-1, -1]], dim=1)


def _mean(values: Tensor) -> float:
    return values.float().mean().item() if len(values) else 0.0


def _input_causes(inputs: dict) -> list[str]:
    if inputs["constant"] > inputs["num_images"] // 2:
        return [
            f"{inputs['constant']} of {inputs['num_images']} images are constant after normalisation: are the files "
            "empty, or do `training.input.normalisation` and `window` clip all values?"
        ]
    if abs(inputs["mean"]) > MAX_INPUT or not MIN_DEVIATION < inputs["deviation"] < MAX_INPUT:
        return [
            f"normalised values have mean {inputs['mean']:.2g} and deviation {inputs['deviation']:.2g}, expected about "
            "0 and 1: bad normalisation, see `training.input`"
        ]
    return []


def _mask_causes(classes: list[dict], max_share: float) -> list[str]:
    causes = []
    if not any(row["num_images"] for row in classes):
        causes.append("no image has a mask of any class: do the mask values match `dataset.classes`?")
    causes += [
        f"{row['class']} covers {row['covered']:.0%} of the images with this class and {row['border']:.0%} of their "
        "border: are its masks inverted? If they are right, set `hparam_search.sanity_checks.most_covered: 1`"
        for row in classes
        if row["covered"] > max_share and row["border"] > max_share
    ]
    return causes


def _term_causes(terms: list[dict], logits: Tensor) -> list[str]:
    unexpected = [term for term in terms if not term["passed"]]
    if not unexpected:
        return []
    values = ", ".join(f"{term['term']} is {term['found']:.3g}, expected {term['expected']:.3g}" for term in unexpected)
    is_activated = logits.min() >= 0 and logits.max() <= 1
    cause = (
        "the network ends in an activation (its output is within 0 to 1), and the loss applies another"
        if is_activated
        else "labels other than 0 and 1, an activation before the loss, values that are not normalised, or a head "
        "that is already trained"
    )
    return [f"unexpected loss of the untrained network: {values}. Likely: {cause}"]
