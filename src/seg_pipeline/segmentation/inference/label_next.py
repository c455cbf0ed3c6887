"""Rank unlabelled images by how much their labels would add: model disagreement, and distance to labelled images.

Axes: N unlabelled images, M labelled images, D features.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.fingerprints import thumbnail_bits

NEAR_COPY = 8
"""Near-copies have thumbnails (256 bits) that differ in fewer bits than this, as in the finding `similar_images`."""


class Images(NamedTuple):
    """Features of images before they are labelled."""

    image_ids: list[str]
    groups: list[str]
    thumbnails: list[str]
    """``fingerprints.thumbnail`` of each image."""
    features: np.ndarray
    """float32 (N, D)."""
    disagreement: np.ndarray
    """float64 (N,)."""


def rank_images(
    unlabelled: Images, labelled: Images, *, number: int, disagreement_weight: float, voters: str = "the models"
) -> pd.DataFrame:
    """Choose images one by one, by their disagreement and their distance to images already labelled or chosen.

    The score is ``disagreement_weight`` times the rank of the disagreement (0 to 1) plus the rest times the distance,
    as a share of the largest one (greedy k-center). It is divided by 1 + the number of images chosen from the group.
    A near-copy of a labelled or chosen image is never chosen.

    Args:
        voters: what disagrees, for the text of the reasons.

    Returns:
        One row per unlabelled image, those chosen first: rank (from 1, missing if not chosen), image_id, group, score,
        disagreement, distance (both 0 to 1), near_copy_of (an image_id, or missing), reason (a sentence).
    """
    features, labelled_features = _standardised(unlabelled.features, labelled.features)
    bits, labelled_bits = thumbnail_bits(unlabelled.thumbnails), thumbnail_bits(labelled.thumbnails)
    count = len(features)
    disagreement = pd.Series(unlabelled.disagreement).rank(pct=True).to_numpy()
    nearest = np.full(count, np.inf)
    copies: list[str | None] = [None for _ in range(count)]
    for feature, image_bits, name in zip(labelled_features, labelled_bits, labelled.image_ids, strict=True):
        nearest = np.minimum(nearest, np.linalg.norm(features - feature, axis=1))
        _mark_near_copies(copies, bits, image_bits, name)
    if not len(labelled_features):
        nearest = np.linalg.norm(features - features.mean(0), axis=1)
    largest = max(float(nearest.max(initial=0)), 1e-12)
    group, chosen_per_group = pd.factorize(np.asarray(unlabelled.groups, dtype=object))[0], np.zeros(count, dtype=int)
    rank, score, distance = np.full(count, np.nan), np.zeros(count), np.zeros(count)
    for position in range(1, min(number, count) + 1):
        candidates = np.isnan(rank) & np.array([copy is None for copy in copies])
        value = disagreement_weight * disagreement + (1 - disagreement_weight) * nearest / largest
        value /= 1 + chosen_per_group[group]
        score[np.isnan(rank)], distance[np.isnan(rank)] = value[np.isnan(rank)], nearest[np.isnan(rank)] / largest
        if not candidates.any():
            break
        best = int(np.where(candidates, value, -1).argmax())
        rank[best] = position
        chosen_per_group[group[best]] += 1
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
        _mark_near_copies(copies, bits, bits[best], unlabelled.image_ids[best])
        copies[best] = None
    table = pd.DataFrame(
        {
            "rank": pd.Series(rank).astype("Int64"),
            "image_id": unlabelled.image_ids,
            "group": unlabelled.groups,
            "score": score,
            "disagreement": disagreement,
            "distance": distance,
            "near_copy_of": pd.array(copies, dtype="str"),
        }
    )
    table["reason"] = [_reason(row, voters) for row in table.to_dict("records")]
    return table.sort_values(["rank", "score"], ascending=[True, False], kind="stable", ignore_index=True)


def _reason(row: dict, voters: str) -> str:
    if isinstance(row["near_copy_of"], str):
        return f"Left out: it looks like {row['near_copy_of']}."
    disagreement, distance = (f"{100 * row[name]:.0f}" for name in ("disagreement", "distance"))
    return (
        f"Disagreement between {voters}: percentile {disagreement} of these images. Distance to labelled and chosen "
        f"images: {distance} % of the largest."
    )


def _standardised(features: np.ndarray, labelled_features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features with mean 0 and deviation 1 over all images."""
    combined = np.concatenate([features, labelled_features.reshape(-1, features.shape[1])]).astype(np.float64)
    combined = (combined - combined.mean(0)) / np.maximum(combined.std(0), 1e-9)
    return combined[: len(features)], combined[len(features) :]


def near_copies(thumbnails: list[str], others: list[str]) -> np.ndarray:
    """Whether each thumbnail is nearly equal to one of ``others``: bool (N,)."""
    bits, other_bits = thumbnail_bits(thumbnails), thumbnail_bits(others)
    return np.array([(np.bitwise_count(other_bits ^ one).sum(axis=1) < NEAR_COPY).any() for one in bits], dtype=bool)


def _mark_near_copies(copies: list[str | None], bits: np.ndarray, image_bits: np.ndarray, name: str) -> None:
    """Mark the images that are near-copies of the one with ``image_bits``."""
    num_differing = np.bitwise_count(bits ^ image_bits).sum(axis=1)
    for index in np.flatnonzero(num_differing < NEAR_COPY):
        copies[index] = copies[index] or name
