"""Sanity checks: one minute that can save a search on data or settings that cannot work.

Check 1, ``initial_loss``, examines input and output of the untrained network: the normalised values of the images, the
area of each mask, and each loss term beside its expected value. Check 2, ``overfit``, trains on a few images until they
are fitted, then tests whether the network has learned anything about other images. Any network can memorise shuffled
masks; only that second part detects them. docs/explanation/search.md says what the checks cannot detect.
"""

import logging
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from seg_pipeline.segmentation.exploration.contact_sheets import images_with_most_classes
from seg_pipeline.segmentation.plotting.curves import plot_overfit
from seg_pipeline.segmentation.search.initial_loss import initial_loss
from seg_pipeline.segmentation.search.overfit_check import overfit, overfit_sheet, pairing, verdict
from seg_pipeline.segmentation.settings.search import SanityCheckSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.auto_settings import resolve_auto_settings
from seg_pipeline.segmentation.training.devices import pick_device

log = logging.getLogger(__name__)

DEFAULTS = SanityCheckSettings()


class CheckReport(NamedTuple):
    report: dict
    """``passed``, and one dict per check: passed, causes (sentences) and its numbers. Plain values, ready for JSON."""
    curve: Figure
    sheet: Figure


def run_sanity_checks(
    manifest: pd.DataFrame, config: TrainingConfig, compute: ComputeSettings, settings: SanityCheckSettings = DEFAULTS
) -> CheckReport:
    """Run both checks on the train and val images. A failed check does not raise; ``stop_on_failed_checks`` does."""
    device = pick_device(compute.device)
    config = resolve_auto_settings(_without_augmentation(config), manifest, device)
    first = initial_loss(manifest, config, device, settings)
    rows = images_with_most_classes(manifest[manifest["split"] == "train"], settings.overfit_images)
    second, state, dataset = overfit(rows, config, compute, settings)
    unseen = manifest[~manifest["image_id"].isin(rows["image_id"])]
    if state is not None:
        overfitted = second["dice"] >= settings.overfit_dice
        second |= pairing(unseen, state, settings, overfitted=overfitted)
    second |= verdict(second, settings)
    report = {"passed": first["passed"] and second["passed"], "initial_loss": first, "overfit": second}
    curve = plot_overfit(pd.DataFrame(second["curve"]), required=settings.overfit_dice)
    return CheckReport(report, curve, overfit_sheet(rows, dataset, state, config))


def stop_on_failed_checks(report: dict, *, stop: bool) -> bool:
    """Log whether all checks passed, and return it.

    Raises:
        ValueError: a check failed and ``stop`` is true.
    """
    failed = {name: check for name, check in report.items() if isinstance(check, dict) and not check["passed"]}
    if not failed:
        log.info(
            "sanity checks passed: %s", ", ".join(name for name, check in report.items() if isinstance(check, dict))
        )
        return True
    causes = "; ".join(f"{name}: {' '.join(check['causes'])}" for name, check in failed.items())
    if stop:
        raise ValueError(
            f"a sanity check failed. {causes}. See 06_models/sanity_checks.json and 08_reporting/overfit_*.png. To "
            "search anyway: `--params hparam_search.sanity_checks.stop=false`"
        )
    log.warning(
        "a sanity check failed; the search continues because hparam_search.sanity_checks.stop is false. %s", causes
    )
    return False


def _without_augmentation(config: TrainingConfig) -> TrainingConfig:
    """Config for whole images without augmentation, so that nothing random affects an image and its mask."""
    whole_images = {"input.zoom": 1.0, "input.scale": 1.0, "input.foreground": 0.0, "input.resize_mode": "resize"}
    cropped = whole_images if config.input.resize_mode == "crop" else {}
    return config.changed({**cropped, "sampling.augmentation": "none", "sampling.albumentations": None})
