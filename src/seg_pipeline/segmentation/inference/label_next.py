"""Rank unlabelled images by what their labels would add: disagreement of the model, and distance to what is labelled.

Axes: N unlabelled images, M labelled images, D features.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.fingerprints import thumbnail_bits

NEAR_COPY = 8
"""Bits of two thumbnails, of 256, of which fewer differ in near-copies; as for the finding `similar_images`."""


class Images(NamedTuple):
    """What is known of images before they are labelled."""

    image_ids: list[str]
    groups: list[str]
    thumbnails: list[str]
    """``fingerprints.thumbnail`` of each."""
    features: np.ndarray
    """float32 (N, D)."""
    disagreement: np.ndarray
    """float64 (N,)."""


def rank_images(
    unlabelled: Images, labelled: Images, *, number: int, disagreement_weight: float, voters: str = "the models"
) -> pd.DataFrame:
    """Choose images one after another, each for its disagreement and its distance to those labelled or chosen before.

    The score is ``disagreement_weight`` times the rank of the disagreement (0 to 1) plus the rest times the distance,
    as a share of the largest one (greedy k-center). It is divided by 1 + the images that were chosen of the same group.
    A near-copy of a labelled or chosen image is never chosen.

    Args:
        voters: who disagrees, in the words of the reasons.

    Returns:
        One row per unlabelled image, those chosen first: rank (from 1, missing if not chosen), image_id, group, score,
        disagreement, distance (both 0 to 1), near_copy_of (an image_id, or missing), reason (in words).
    """
    features, known = _standardised(unlabelled.features, labelled.features)
    bits, known_bits = thumbnail_bits(unlabelled.thumbnails), thumbnail_bits(labelled.thumbnails)
    count = len(features)
    unsure = pd.Series(unlabelled.disagreement).rank(pct=True).to_numpy()
    nearest = np.full(count, np.inf)
    copies: list[str | None] = [None for _ in range(count)]
    for feature, one, name in zip(known, known_bits, labelled.image_ids, strict=True):
        nearest = np.minimum(nearest, np.linalg.norm(features - feature, axis=1))
        _mark(copies, bits, one, name)
    if not len(known):
        nearest = np.linalg.norm(features - features.mean(0), axis=1)
    largest = max(float(nearest.max(initial=0)), 1e-12)
    group, picked = pd.factorize(np.asarray(unlabelled.groups, dtype=object))[0], np.zeros(count, dtype=int)
    rank, score, distance = np.full(count, np.nan), np.zeros(count), np.zeros(count)
    for place in range(1, min(number, count) + 1):
        waiting = np.isnan(rank) & np.array([one is None for one in copies])
        value = disagreement_weight * unsure + (1 - disagreement_weight) * nearest / largest
        value /= 1 + picked[group]
        score[np.isnan(rank)], distance[np.isnan(rank)] = value[np.isnan(rank)], nearest[np.isnan(rank)] / largest
        if not waiting.any():
            break
        best = int(np.where(waiting, value, -1).argmax())
        rank[best] = place
        picked[group[best]] += 1
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
        _mark(copies, bits, bits[best], unlabelled.image_ids[best])
        copies[best] = None
    table = pd.DataFrame(
        {
            "rank": pd.Series(rank).astype("Int64"),
            "image_id": unlabelled.image_ids,
            "group": unlabelled.groups,
            "score": score,
            "disagreement": unsure,
            "distance": distance,
            "near_copy_of": pd.array(copies, dtype="str"),
        }
    )
    table["reason"] = [_reason(row, voters) for row in table.to_dict("records")]
    return table.sort_values(["rank", "score"], ascending=[True, False], kind="stable", ignore_index=True)


def _reason(row: dict, voters: str) -> str:
    if isinstance(row["near_copy_of"], str):
        return f"Left out: it looks like {row['near_copy_of']}."
    unsure, far = (f"{100 * row[name]:.0f}" for name in ("disagreement", "distance"))
    return (
        f"Disagreement between {voters}: percentile {unsure} of these images. Distance to labelled and chosen images: "
        f"{far} % of the largest."
    )


def _standardised(features: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features with mean 0 and deviation 1 over all images."""
    every = np.concatenate([features, known.reshape(-1, features.shape[1])]).astype(np.float64)
    every = (every - every.mean(0)) / np.maximum(every.std(0), 1e-9)
    return every[: len(features)], every[len(features) :]


def near_copies(thumbnails: list[str], known: list[str]) -> np.ndarray:
    """Whether each thumbnail is nearly equal to one of ``known``: bool (N,)."""
    bits, others = thumbnail_bits(thumbnails), thumbnail_bits(known)
    return np.array([(np.bitwise_count(others ^ one).sum(axis=1) < NEAR_COPY).any() for one in bits], dtype=bool)


def _mark(copies: list[str | None], bits: np.ndarray, one: np.ndarray, name: str) -> None:
    """Note which images are near-copies of the one with these bits."""
    differing = np.bitwise_count(bits ^ one).sum(axis=1)
    for at in np.flatnonzero(differing < NEAR_COPY):
        copies[at] = copies[at] or name
