"""An epoch of training with a frozen vision transformer: its features computed once per image (a) and in every epoch
(b). DPT with DINOv3's small transformer, 224 x 224, without augmentation.
"""

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import side_by_side
import torch
from training import config_of, draw

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.models.features import with_features
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.devices import autocast, pick_precision
from seg_pipeline.segmentation.training.epoch import fit
from seg_pipeline.segmentation.training.state import start

IMAGES, SIZE, RUNS = 24, 224, 3
CPU, COMPUTE = torch.device("cpu"), ComputeSettings(cache="ram", save_minutes=None)


def epochs(manifest: pd.DataFrame, *, once: bool) -> Iterator[dict | None]:
    config = config_of(SIZE, "tu-vit_small_patch16_dinov3").changed(
        {
            "model.architecture": "dpt",
            "model.decoder_channels": (128, 96, 64, 48),
            "optimizer.freeze_encoder": True,
            "sampling.augmentation": "none",
            "fit.validate_every": 1,
        }
    )
    state = start(config, "", CPU)
    loaders = make_loaders(manifest, config, COMPUTE, device=CPU)
    if once:
        cast = partial(autocast, CPU, pick_precision(config.fit.precision, CPU))
        loaders = with_features(loaders, [state.model], config, COMPUTE, device=CPU, folder=None, autocast=cast)
    return fit(state, loaders)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        manifest = draw(Path(folder), train=IMAGES, size=SIZE)
        a, b = (partial(next, epochs(manifest, once=once)) for once in (True, False))
        note = f"epoch of {IMAGES} images of {SIZE} x {SIZE}, validation included"
        result = side_by_side.compare("frozen_features_vs_none", a, b, limit=0.9, runs=RUNS, note=note)
    return side_by_side.report(result)


if __name__ == "__main__":
    sys.exit(main())
