"""Predict a table of images into a folder; repeating the same call resumes an interrupted run."""

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
    """Which files are written besides areas.csv and findings.csv (and objects.csv and objects/ for models that segment
    objects)."""

    formats: tuple[Format, ...] = ("masks", "rle")
    """masks, overlays, uncertainty, spread (between the models of the folds): PNG files; rle: rle_masks.csv (id, class,
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
    """Per predicted image: image_id, file, height, width, and per class the run lengths along rows and measures."""


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
        folder: new, empty, or from an earlier call with the same model and settings, which is resumed.
        workers: threads that read ahead; as many more write the files.
        batch_size: images per batch of the network.
        progress: False hides the progress bar.

    Raises:
        ValueError: the folder holds other files, another process predicts into it, the table lacks columns that the
            network needs, or the spread of a single network is requested.
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
    for subfolder in [writer.folder, *writer.folder.rglob("*/")]:
        sweep(subfolder)  # temporary files that a killed run left for images no longer in the table
    paths = {row["image_id"]: row["path"] for row in reader.rows}
    journal.keep(lambda record: writer.is_up_to_date(record, paths))
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

    A partly finished batch is predicted again completely: the last digits of a result can depend on the batch size,
    and a resumed run must give the same files as an uninterrupted one.
    """
    names = [row["image_id"] for row in reader.rows]
    batches = [range(begin, min(begin + batch_size, len(names))) for begin in range(0, len(names), batch_size)]
    batches = [batch for batch in batches if any(names[index] not in done for index in batch)]
    remaining = [index for batch in batches for index in batch]
    read = map_in_threads(reader.load, remaining, workers=workers)

    def record(index: int, loaded: Loaded, logits: Logits | None) -> dict[str, Any]:
        return writer.record(reader.rows[index], loaded, logits)

    def predicted() -> Iterator[Callable[[], dict[str, Any]]]:
        for batch in batches:
            loaded = list(itertools.islice(read, len(batch)))
            inputs = [image.network_input for image in loaded if image.network_input is not None]
            logits = iter(writer.predictor.input_logits(inputs) if inputs else [])
            for index, image in zip(batch, loaded, strict=True):
                image_logits = None if image.network_input is None else next(logits)
                if names[index] in done:
                    continue
                finish = partial(record, index, image, image_logits)
                is_small = image_logits is None or math.prod(image_logits[1]) <= MAX_PIXELS
                yield finish if is_small else partial(dict, finish())

    yield from map_in_threads(lambda finish: finish(), predicted(), workers=workers)


MAX_PIXELS = 2**24
"""Larger images are finished one at a time, because several may not fit into memory."""

Logits = tuple[list[np.ndarray], tuple[int, int]]
"""Logits of one image, as returned by ``ImagePredictor.input_logits``."""


@dataclass(frozen=True)
class Writer:
    """Writes the files of an image and describes their contents."""

    folder: Path
    predictor: ImagePredictor
    settings: OutputSettings

    def is_up_to_date(self, record: dict[str, Any], paths: dict[str, str]) -> bool:
        """Whether the image need not be predicted again: its file is unchanged and its outputs exist."""
        name = record["image_id"]
        if name not in paths or tuple(record["signature"]) != signature(paths[name]):
            return False
        if "rule" in record:
            return record["rule"] != "io_error"  # which may have been temporary
        files = [outputs.overlay_file(name)] if "overlays" in self.settings.formats else []
        files += [outputs.map_file(name, kind) for kind in MAPS if kind in self.settings.formats]
        if "masks" in self.settings.formats:
            georeferenced = record.get("georeferenced", False)
            files += outputs.mask_files(name, self.predictor.bundle, georeferenced=georeferenced)
        if self.predictor.bundle.objects:
            files += object_outputs.map_files(record, self.predictor.bundle.classes)
        return all((self.folder / file).exists() for file in files)

    def record(self, row: dict[str, Any], loaded: Loaded, logits: Logits | None) -> dict[str, Any]:
        """Write the files of an image; return its record.

        The record holds plain values: uncertainty and, per class, run lengths, area, confidence and peak.
        """
        record = {name: row[name] for name in ("image_id", "file")} | {"signature": list(signature(row["path"]))}
        if loaded.finding is not None:
            return {**record, "rule": loaded.finding.rule, "reason": loaded.finding.reason}
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
        uncertainty = self.predictor.uncertainty(probabilities)
        classes = {
            name: [encode_rle(mask, order="C"), int(mask.sum()), *_confidences(mask, probability)]
            for name, mask, probability in zip(bundle.classes, masks, bundle.class_part(probabilities), strict=True)
        }
        record |= {"georeferenced": True} if loaded.georeference else {}
        record |= {"uncertainty": _rounded(uncertainty.score), "look_at_this": uncertainty.look_at_this}
        if bundle.objects:
            labels = self.predictor.objects(probabilities)
            record["objects"] = object_outputs.record_objects(
                row, labels, bundle.class_part(probabilities), bundle.classes
            )
            object_outputs.write_maps(self.folder, record, labels, bundle.classes, loaded.georeference)
        return {**record, "height": loaded.image.shape[0], "width": loaded.image.shape[1], "classes": classes}


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
    predicted_records = [record for record in records if "rule" not in record]
    failed_records = [record for record in records if "rule" in record]
    areas = outputs.area_table(predicted_records)
    findings = findings_table(
        Finding(record["rule"], record["reason"], "dropped", record["image_id"], record["file"])
        for record in failed_records
    )
    outputs.write_csv(folder / "areas.csv", outputs.without_formulas(areas))
    outputs.write_csv(folder / "findings.csv", outputs.without_formulas(findings))
    if objects:
        outputs.write_csv(
            folder / "objects.csv", outputs.without_formulas(object_outputs.object_table(predicted_records))
        )
    if "rle" in settings.formats:
        outputs.write_csv(folder / "rle_masks.csv", outputs.rle_table(predicted_records, settings.rle_order))
    if "coco" in settings.formats:
        outputs.write_coco(folder / "coco.json", predicted_records, classes)
    return Result(areas, findings, num_new, predicted_records)
