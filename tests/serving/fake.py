"""A predictor without a network: brightness becomes probability. For tests and for looking at the page."""
from __future__ import annotations

import time
from dataclasses import dataclass, field

import cv2
import numpy as np

from seg_pipeline.segmentation.images import to_grey, scale_values
from seg_pipeline.segmentation.postprocess import Postprocessing, make_masks
from dataclasses import replace
from seg_pipeline.segmentation.recipe import InputSettings


@dataclass(frozen=True)
class FakeBundle:
    task: str = "multilabel"
    classes: tuple[str, ...] = ("large_bowel", "small_bowel", "stomach")
    colours: tuple[str, ...] = ("#e69f00", "#56b4e9", "#009e73")
    background: bool = False
    input: InputSettings = InputSettings(size=(64, 96))
    postprocessing: Postprocessing = field(default_factory=lambda: Postprocessing.none(3, 0.5))
    provenance: dict = field(default_factory=lambda: {"created": "2026-11-22"})


class FakePredictor:
    def __init__(self, bundle=FakeBundle(), wait=0.0):
        self.bundle, self.wait = bundle, wait

    def probabilities(self, image):
        time.sleep(self.wait)
        grey = to_grey(image)
        g = scale_values(grey, *np.percentile(grey, (1, 99)).tolist()).astype(np.float32) / 255
        g = cv2.GaussianBlur(g, (0, 0), max(image.shape) / 120)
        p = np.stack([np.exp(-(((g - c) / 0.16) ** 2)) for c in (0.35, 0.55, 0.8)]).astype(np.float32)
        if self.bundle.task == "multiclass":
            p = np.concatenate([1 - p.max(0, keepdims=True), p]) if self.bundle.background else p
            p /= p.sum(0)
        return p

    def masks(self, probabilities, thresholds=None):
        settings = self.bundle.postprocessing
        if thresholds:
            settings = replace(settings, thresholds=tuple(thresholds))
        return make_masks(probabilities, settings, task=self.bundle.task, background=self.bundle.background)
