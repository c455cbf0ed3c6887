"""Order and index base of run lengths: proposed from the data, declared by the user."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.segmentation.images.fingerprints import count_objects
from seg_pipeline.segmentation.images.masks import MaskError, decode_rle, encode_rle
from seg_pipeline.segmentation.manifest.cross_checks import check_order

FEWEST_CROSSINGS = 5
"""Runs that must go on in the next line if counted from one number, and none from the other, to prove the latter."""

Order = Literal["C", "F"]
Run = tuple[Path, tuple[int, int], str, str]
"""Image file, its height and width, class, run lengths."""


def decoded(text: str, shape: tuple[int, int], order: Order, first: int) -> np.ndarray | None:
    """Bool mask (H, W); None if the run lengths do not fit."""
    try:
        return decode_rle(text, shape, order=order, first=first)
    except MaskError:
        return None


def declare(runs: list[Run], known: int | None, ask: Asker) -> tuple[Order, int]:
    """Order, and number of the first pixel; ``known``: the latter, if the source documents it.

    Raises:
        ValueError: the data does not suggest one of them, and there is no answer.
    """
    proposal, why = (known, "as documented by its source") if known is not None else _first(runs)
    bases = {"1": "the first pixel is 1, as in most tables of Kaggle", "0": "the first pixel is 0"}
    suggested = None if proposal is None else str(proposal)
    first = int(
        ask.choose("rle_first", f"Where do run lengths count from? {why[0].upper()}{why[1:]}.", bases, suggested)
    )
    ask.decide(f"run lengths count from {first}: {why if first == proposal else 'as declared'}")
    objects, doubted = zip(*(_look(runs, order, first) for order in ("C", "F")), strict=True)
    counts = f"masks fall into {objects[0]} objects along rows (C), {objects[1]} down columns (F)"
    evidence = "; ".join([counts, *(text for text in doubted if text)])
    clear = {(False, True): "C", (True, False): "F"}.get((bool(doubted[0]), bool(doubted[1])))
    orders = {"C": "runs go along rows", "F": "runs go down columns"}
    order = ask.choose("rle_order", f"In which direction do runs go? {evidence}.", orders, clear)
    ask.decide(f"run lengths are declared as {order}, {orders[order]}: {evidence}")
    return ("C" if order == "C" else "F"), first


def _first(runs: list[Run]) -> tuple[int | None, str]:
    """Number of the first pixel if the runs prove it, and the reason."""
    numbers = [(np.array(text.split(), dtype=np.int64), shape) for _, shape, _, text in runs]
    if any(one[::2].min() == 0 for one, _ in numbers):
        return 0, "a run starts at 0"
    if any((one[::2] + one[1::2]).max() > height * width for one, (height, width) in numbers):
        return 1, "a run ends at the image's last pixel, counted from 1"
    crossings = [
        [sum(_crossings(one, shape[axis], first) for one, shape in numbers) for first in (0, 1)] for axis in (0, 1)
    ]  # of runs down columns, and along rows
    shown = {one.index(0): max(one) for one in crossings if min(one) == 0 and max(one) >= FEWEST_CROSSINGS}
    if len(shown) == 1:
        ((first, number),) = shown.items()
        return first, f"{number} runs would go on at the opposite border if they counted from {1 - first}"
    return None, f"none of {len(runs)} masks starts at 0 or ends at a pixel number that only counting from 1 allows"


def _crossings(numbers: np.ndarray, length: int, first: int) -> int:
    """Number of runs that go on in the next line."""
    starts = numbers[::2] - first
    return int((starts // length != (starts + numbers[1::2] - 1) // length).sum())


def _look(runs: list[Run], order: Order, first: int) -> tuple[int, str]:
    """Number of objects in this order, and the evidence against it ("" if there is none)."""
    rows = []
    for path, shape, _, text in runs:
        if (mask := decoded(text, shape, order, first)) is not None:
            rows.append({"path": str(path), "height": shape[0], "width": shape[1], "objects_any": count_objects(mask),
                         "mask_any": encode_rle(mask, order="C"), "area_any": int(mask.sum())})  # fmt: skip
    if not rows:
        return 0, "no mask can be decoded"
    table = pd.DataFrame(rows)
    doubts = [f"as {order}, {reason.partition('; `rle_order`')[0]}" for reason in check_order(table, order)["reason"]]
    return int(table["objects_any"].sum()), "; ".join(doubts)
