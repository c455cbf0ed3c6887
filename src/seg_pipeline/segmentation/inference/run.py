"""Predict a table of images into a folder; an interrupted run resumes when the same call is repeated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.masks import Order, encode_rle
from seg_pipeline.segmentation.inference import object_outputs, outputs
from seg_pipeline.segmentation.inference.journal import Journal, identity
from seg_pipeline.segmentation.inference.prefetch import Loaded, Reader, signature
from seg_pipeline.segmentation.manifest.findings import Finding, findings_table
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.settings.plain_values import to_plain
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.storage.atomic import sweep

Format = Literal["masks", "overlays", "uncertainty", "spread", "rle", "coco"]
MAPS = ("uncertainty", "spread")
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Which files are written in addition to areas.csv and findings.csv, and objects.csv and objects/ of a model that
    knows objects."""

    formats: tuple[Format, ...] = ("masks", "rle")
    """masks, overlays, uncertainty, spread (of the models of folds): PNG files; rle: rle_masks.csv (id, class,
    predicted); coco: coco.json."""
    rle_order: Order = "C"
    """Run lengths in rle_masks.csv: C along rows (as everywhere in this project), F down columns."""


class Result(NamedTuple):
    areas: pd.DataFrame
    """One row per image and class, with ``outputs.TABLE_COLUMNS``."""
    findings: pd.DataFrame
    """Images that could not be predicted, and why."""
    num_new: int
    """Number of images predicted by this call; the others were predicted by an earlier one."""
    records: list[dict[str, Any]]
    """Of each predicted image: image_id, file, height, width, and per class run lengths along rows and numbers."""


def predict_folder(
    table: pd.DataFrame,
    predictor: ImagePredictor,
    folder: Path,
    *,
    settings: OutputSettings,
    workers: int = 2,
    batch_size: int = 1,
    progress: bool | None = None,
) -> Result:
    """Predict all images of a table of ``find_images`` into ``folder``; docs/how-to/deploy.md describes the files.

    Args:
        folder: new, empty, or of an earlier call with the same model and settings, which is resumed.
        workers: threads that read ahead, and as many that write the files.
        batch_size: images that go through the network together.
        progress: show how far it is; False: show nothing.

    Raises:
        ValueError: the folder holds other files, another process predicts into it, or the table lacks columns that
            the network needs, or the spread of a single network is asked for.
    """
    if "spread" in settings.formats and len(predictor.networks) < 2:
        raise ValueError(
            "`formats` has spread, how much the models of the folds disagree, but this model is a single network; "
            "uncertainty works for every model"
        )
    reader = Reader(table, predictor.bundle.input)
    journal = Journal(folder, identity(predictor, to_plain(asdict(settings))))
    with journal.only_writer():
        return _predict(table, reader, journal, Writer(folder, predictor, settings), workers, batch_size, progress)


def _predict(
    table: pd.DataFrame,
    reader: Reader,
    journal: Journal,
    writer: Writer,
    workers: int,
    batch_size: int,
    progress: bool | None,
) -> Result:
    for below in [writer.folder, *writer.folder.rglob("*/")]:
        sweep(below)  # what a killed run left of images that are no longer in the table
    paths = {row["image_id"]: row["path"] for row in reader.rows}
    journal.keep(lambda record: writer.still_holds(record, paths))
    before = len(journal.records)
    hidden = progress is False
    with progress_bar(total=len(table), initial=before, title="predicting", unit="images", hidden=hidden) as bar:
        for record in _records(reader, writer, set(journal.records), workers=workers, batch_size=batch_size):
            journal.add(record)
            bar.update()
    records = [journal.records[row["image_id"]] for row in reader.rows]
    classes = writer.predictor.bundle.classes
    objects = writer.predictor.bundle.objects
    return _finish(records, writer.folder, classes, writer.settings, num_new=len(records) - before, objects=objects)


def _records(
    reader: Reader, writer: Writer, done: set[str], *, workers: int, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Yield a record per remaining image, after its files are written.

    A partly finished batch is predicted again as a whole: the result of an image can depend on the batch size in its
    last digits, and a resumed run must give the same files as an uninterrupted one.
    """
    names = [row["image_id"] for row in reader.rows]
    batches = [range(begin, min(begin + batch_size, len(names))) for begin in range(0, len(names), batch_size)]
    batches = [batch for batch in batches if any(names[index] not in done for index in batch)]
    wanted = [index for batch in batches for index in batch]
    read = map_in_threads(reader.load, wanted, workers=workers)

    def record(index: int, loaded: Loaded, logits: Logits | None) -> dict[str, Any]:
        return writer.record(reader.rows[index], loaded, logits)

    def predicted() -> Iterator[Callable[[], dict[str, Any]]]:
        for batch in batches:
            loaded = list(itertools.islice(read, len(batch)))
            seen = [one.seen for one in loaded if one.seen is not None]
            logits = iter(writer.predictor.input_logits(seen) if seen else [])
            for index, one in zip(batch, loaded, strict=True):
                found = None if one.seen is None else next(logits)
                if names[index] in done:
                    continue
                finish = partial(record, index, one, found)
                yield finish if found is None or math.prod(found[1]) <= MOST_PIXELS else partial(dict, finish())

    yield from map_in_threads(lambda finish: finish(), predicted(), workers=workers)


MOST_PIXELS = 2**24
"""Larger images are finished one after another, because several in memory could be too many."""

Logits = tuple[list[np.ndarray], tuple[int, int]]
"""Of one image, as ``ImagePredictor.input_logits`` gives them."""


@dataclass(frozen=True)
class Writer:
    """Writes the files of an image and describes their contents."""

    folder: Path
    predictor: ImagePredictor
    settings: OutputSettings

    def still_holds(self, record: dict[str, Any], paths: dict[str, str]) -> bool:
        """Whether an image needs no new prediction: its file is unchanged and its outputs exist."""
        name = record["image_id"]
        if name not in paths or tuple(record["signature"]) != signature(paths[name]):
            return False
        if "rule" in record:
            return record["rule"] != "io_error"  # which may have passed
        files = [outputs.overlay_file(name)] if "overlays" in self.settings.formats else []
        files += [outputs.map_file(name, kind) for kind in MAPS if kind in self.settings.formats]
        if "masks" in self.settings.formats:
            placed = record.get("georeferenced", False)
            files += outputs.mask_files(name, self.predictor.bundle, georeferenced=placed)
        if self.predictor.bundle.objects:
            files += object_outputs.map_files(record, self.predictor.bundle.classes)
        return all((self.folder / file).exists() for file in files)

    def record(self, row: dict[str, Any], loaded: Loaded, logits: Logits | None) -> dict[str, Any]:
        """Write the files of an image; returns plain values.

        Its uncertainty, and per class the run lengths, area, confidence and peak.
        """
        about = {name: row[name] for name in ("image_id", "file")} | {"signature": list(signature(row["path"]))}
        if loaded.finding is not None:
            return {**about, "rule": loaded.finding.rule, "reason": loaded.finding.reason}
        assert loaded.image is not None
        assert logits is not None
        probabilities = self.predictor.finished(*logits)
        bundle, masks = self.predictor.bundle, self.predictor.masks(probabilities)
        if "masks" in self.settings.formats:
            outputs.write_masks(self.folder, row["image_id"], masks, bundle, loaded.georeference)
        if "overlays" in self.settings.formats:
            outputs.write_overlay(self.folder, row["image_id"], loaded.image, masks, bundle)
        if "uncertainty" in self.settings.formats:
            outputs.write_map(self.folder, row["image_id"], "uncertainty", self.predictor.entropy(probabilities))
        if "spread" in self.settings.formats:
            outputs.write_map(self.folder, row["image_id"], "spread", self.predictor.spread(*logits))
        doubt = self.predictor.uncertainty(probabilities)
        classes = {
            name: [encode_rle(mask, order="C"), int(mask.sum()), *_confidences(mask, one)]
            for name, mask, one in zip(bundle.classes, masks, bundle.class_part(probabilities), strict=True)
        }
        about |= {"georeferenced": True} if loaded.georeference else {}
        about |= {"uncertainty": _rounded(doubt.score), "look_at_this": doubt.look_at_this}
        if bundle.objects:
            labels = self.predictor.objects(probabilities)
            about["objects"] = object_outputs.record_objects(
                row, labels, bundle.class_part(probabilities), bundle.classes
            )
            object_outputs.write_maps(self.folder, about, labels, bundle.classes, loaded.georeference)
        return {**about, "height": loaded.image.shape[0], "width": loaded.image.shape[1], "classes": classes}


def _confidences(mask: np.ndarray, probabilities: np.ndarray) -> tuple[float | None, float]:
    """Mean probability inside the mask (None if it is empty) and largest probability of the image."""
    return _rounded(probabilities[mask].mean()) if mask.any() else None, _rounded(probabilities.max())


def _rounded(value: np.floating | float) -> float:
    """Round to six digits, the precision of a float32."""
    return float(f"{value:.6g}")


def _finish(
    records: list[dict[str, Any]],
    folder: Path,
    classes: Sequence[str],
    settings: OutputSettings,
    *,
    num_new: int,
    objects: bool,
) -> Result:
    """Write the tables of all images, replacing those of an earlier call."""
    good = [record for record in records if "rule" not in record]
    bad = [record for record in records if "rule" in record]
    areas = outputs.area_table(good)
    findings = findings_table(
        Finding(one["rule"], one["reason"], "dropped", one["image_id"], one["file"]) for one in bad
    )
    outputs.write_csv(folder / "areas.csv", outputs.without_formulas(areas))
    outputs.write_csv(folder / "findings.csv", outputs.without_formulas(findings))
    if objects:
        outputs.write_csv(folder / "objects.csv", outputs.without_formulas(object_outputs.object_table(good)))
    if "rle" in settings.formats:
        outputs.write_csv(folder / "rle_masks.csv", outputs.rle_table(good, settings.rle_order))
    if "coco" in settings.formats:
        outputs.write_coco(folder / "coco.json", good, classes)
    return Result(areas, findings, num_new, good)
