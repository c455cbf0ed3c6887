"""Sanity checks: a minute that saves a search on data or settings that cannot work.

Check 1, ``initial_loss``, looks at what goes into the untrained network and what comes out: the normalised values of
the images, the share of each mask, and each loss term beside its expected value. Check 2, ``overfit``, trains on a few
images until they are fitted, then asks whether what was learned says anything about other images. Any network can
memorise shuffled masks; only that second half detects them. docs/explanation/search.md says what no check can see.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.manifest.table import class_names
from seg_pipeline.segmentation.search.initial_loss import initial_loss
from seg_pipeline.segmentation.search.overfit_check import overfit, pairing, sheet_of, verdict
from seg_pipeline.segmentation.settings.search import SanityCheckSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.auto_settings import settle
from seg_pipeline.segmentation.training.devices import pick_device

log = logging.getLogger(__name__)

USUAL = SanityCheckSettings()


class GateReport(NamedTuple):
    report: dict
    """passed, and a dict a gate: passed, causes (words), and its numbers; plain values."""
    curve: Figure
    sheet: Figure


def run_sanity_checks(
    manifest: pd.DataFrame, config: TrainingConfig, compute: ComputeSettings, settings: SanityCheckSettings = USUAL
) -> GateReport:
    """All gates on the train_val_images images; nothing is raised where one fails (``stop_on_failed_checks`` does)."""
    device = pick_device(compute.device)
    config = settle(_plainly(config), manifest, device)
    first = initial_loss(manifest, config, device, settings)
    rows = _telling(manifest[manifest["split"] == "train"], settings.overfit_images)
    second, state, dataset = overfit(rows, config, compute, settings)
    unseen = manifest[~manifest["image_id"].isin(rows["image_id"])]
    if state is not None:
        learnt = second["dice"] >= settings.overfit_dice
        second |= pairing(unseen, state, settings, learnt=learnt)
    second |= verdict(second, settings)
    report = {"passed": first["passed"] and second["passed"], "initial_loss": first, "overfit": second}
    curve = plotting.plot_overfit(pd.DataFrame(second["curve"]), least=settings.overfit_dice)
    return GateReport(report, curve, sheet_of(rows, dataset, state, config))


def stop_on_failed_checks(report: dict, *, stop: bool) -> bool:
    """Whether all gates passed; says so.

    Raises:
        ValueError: one failed, and ``stop`` is set.
    """
    failed = {name: gate for name, gate in report.items() if isinstance(gate, dict) and not gate["passed"]}
    if not failed:
        log.info("gates: %s passed", ", ".join(name for name, gate in report.items() if isinstance(gate, dict)))
        return True
    causes = "; ".join(f"{name}: {' '.join(gate['causes'])}" for name, gate in failed.items())
    if stop:
        raise ValueError(
            f"a gate before the search failed. {causes}. Pictures and numbers are in 08_reporting (sanity_checks.json, "
            "overfit_*.png). To go on all the same: `--params hparam_search.sanity_checks.stop=false`"
        )
    log.warning(
        "a gate before the search failed, and the run goes on (hparam_search.sanity_checks.stop is false). %s", causes
    )
    return False


def _plainly(config: TrainingConfig) -> TrainingConfig:
    """Whole images, as they are: nothing random stands between an image and its mask."""
    whole = {"input.zoom": 1.0, "input.scale": 1.0, "input.foreground": 0.0, "input.resize_mode": "resize"}
    cropped = whole if config.input.resize_mode == "crop" else {}
    return config.changed({**cropped, "sampling.augmentation": "none", "sampling.albumentations": None})


def _telling(rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """Images that show the most classes, then the most of them, one of each group first."""
    areas = rows[[f"area_{name}" for name in class_names(rows)]]
    ranked = rows.assign(_shown=(areas > 0).sum(axis=1), _area=areas.sum(axis=1))
    ranked = ranked.sort_values(["_shown", "_area"], ascending=False, kind="stable")
    turn = ranked.groupby("group").cumcount()
    return ranked.assign(_turn=turn).sort_values("_turn", kind="stable").head(number)[list(rows)]
