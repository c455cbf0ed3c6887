"""Lists of images to drop or to flag."""

import fnmatch
import re

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.manifest.findings import Finding, collect, findings_table, quarantine

COLUMNS = ["images", "action", "reason"]
ACTIONS = ("drop", "flag")
BLOCK = 8192
"""Names that are Python objects at once."""


def exclude_images(images: pd.DataFrame, listed: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images that are not dropped, and a finding per listed image and per entry that matches no image.

    Args:
        images: with image_id, file, row.
        listed: images (an image_id, else a shell pattern such as ``case7_day0_*``), action ("drop" or "flag"),
            reason. If entries of both actions match an image, it is dropped.

    Raises:
        ValueError: a column is missing, an action is unknown, or no image is left.
    """
    _check(listed)
    kept, findings = images, []
    for action, done in (("drop", "dropped"), ("flag", "flagged")):
        for entry in listed[listed["action"] == action].to_dict("records"):
            fits = _matches(kept["image_id"], entry["images"])
            reason = f"listed as {entry['images']}: {entry['reason']}".replace("{", "{{").replace("}", "}}")
            rest, found = quarantine(kept, fits, "listed_image", reason, done)  # type: ignore[arg-type]
            kept = rest if action == "drop" else kept
            findings.append(found)
    if kept.empty:
        raise ValueError(f"each of the {len(images)} images is listed to be dropped; correct `excluded_images`")
    return kept.reset_index(drop=True), collect(*findings, _unused(images, listed))


def _check(listed: pd.DataFrame) -> None:
    if absent := [name for name in COLUMNS if name not in listed]:
        raise ValueError(f"the list of excluded images lacks the columns {absent}; it has {list(listed)}")
    if listed[COLUMNS].isna().any(axis=None):
        raise ValueError("the list of excluded images has an entry without pattern, action or reason")
    if strange := sorted(set(listed["action"]) - set(ACTIONS)):
        raise ValueError(f"the list of excluded images has the actions {strange}, expected {' or '.join(ACTIONS)}")


def _matches(names: pd.Series, entry: str) -> pd.Series:
    """The image of this name, such as ``scan [1]``; if there is none, those that match the entry as a pattern."""
    pattern = re.compile(fnmatch.translate(entry))
    for fits in (entry.__eq__, pattern.match):
        blocks = (names.iloc[start : start + BLOCK].tolist() for start in range(0, len(names), BLOCK))
        found = np.fromiter((bool(fits(name)) for block in blocks for name in block), dtype=bool, count=len(names))
        if found.any():
            break
    return pd.Series(found, index=names.index)


def _unused(images: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """A finding per entry that matches no image: it may be misspelt."""
    unused = [entry for entry in listed["images"] if not _matches(images["image_id"], entry).any()]
    return findings_table(
        Finding("listed_image_unknown", f"no image matches the listed pattern {entry}", "flagged") for entry in unused
    )
