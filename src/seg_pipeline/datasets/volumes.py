"""Catalog entries for volumes, which are cut into slices on first load."""

from pathlib import Path
from typing import Any, Literal

import pandas as pd

from seg_pipeline.datasets.described import check_choices, local_path
from seg_pipeline.datasets.file_index import ReadOnlyTable
from seg_pipeline.segmentation.formats.volume_cases import class_labels, find_cases, name_classes, read_nnunet
from seg_pipeline.segmentation.formats.volumes import Case, Cutting, index_volumes

Part = Literal["annotations", "images"]


class VolumeDataset(ReadOnlyTable):
    """Slices of the volumes (NIfTI, NRRD, MetaImage) below ``filepath``: their files or their masks. Read-only.

    The class column of the annotations holds label values. Two entries that differ in ``part`` share the slices;
    see ``segmentation.formats.volumes`` for orientation and intensities.

    Args:
        part: "annotations" (image_id, class, mask) or "images" (a file index).
        images, labels: ``glob`` and ``pattern``, whose group ``series`` names the case; see ``find_cases``.
        slices: ``path``, the folder for the slices (16-bit PNG), ``axis`` (axial, coronal or sagittal) and
            ``rescale``, with ``slope`` and ``intercept``: a stored value times slope plus intercept is the
            value in the volume; null: fitted per volume. ``resample_labels: true`` resamples labels on another grid
            than their image's.
        values: label values by class name, which the class column then holds; ``cell: any``: every label above 0 is an
            object of the class (set ``multiple_masks: instances``). null: the column holds label values.
        num_workers: processes that cut volumes; -1: one per core.
    """

    def __init__(
        self,
        *,
        filepath: str,
        part: Part,
        slices: dict[str, Any],
        images: dict[str, str],
        labels: dict[str, str],
        values: dict[str, int | str | list[int]] | None = None,
        num_workers: int = 1,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        check_choices(("part", part, Part))
        self._filepath = local_path(filepath, "volumes")
        self._part = part
        self._store = Path(slices["path"]).absolute()
        self._images, self._labels = images, labels
        self._cutting = Cutting(
            slices.get("axis", "axial"),
            **(slices.get("rescale") or {}),
            resample_labels=slices.get("resample_labels", False),
        )
        self._values = class_labels(values or {})
        self._num_workers = num_workers
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        cases, labels = self._cases()
        images, annotations = index_volumes(cases, self._store, self._cutting, num_workers=self._num_workers)
        if images["image_id"].isna().all():
            problem = images["problem"].iloc[0]
            raise ValueError(f"{self._filepath}: none of its {len(cases)} cases can be used; the first: {problem}")
        if self._part == "images":
            return images
        return annotations if labels is None else name_classes(annotations, labels)

    def _cases(self) -> tuple[list[Case], dict[str, list[int]] | None]:
        return find_cases(self._filepath, images=self._images, labels=self._labels), self._values or None

    def _exists(self) -> bool:
        return self._filepath.is_dir()


class NnunetDataset(VolumeDataset):
    """Training cases in nnU-Net's raw layout, NIfTI or flat images; classes are named as in dataset.json.

    ``channels`` are the one or three channels of the image; null: all. ``cases`` is a pattern of the case names; its
    group ``group`` is what must not be split. ``values`` gives the label values of classes in place of dataset.json.
    The other arguments are those of ``VolumeDataset``.
    """

    def __init__(
        self,
        *,
        filepath: str,
        channels: list[int] | None = None,
        cases: str = ".+",
        metadata: dict[str, Any] | None = None,
        **volumes: Any,
    ) -> None:
        super().__init__(filepath=filepath, images={}, labels={}, metadata=metadata, **volumes)
        self._channels = channels
        self._names = cases

    def _cases(self) -> tuple[list[Case], dict[str, list[int]] | None]:
        cases, labels = read_nnunet(self._filepath, channels=self._channels, names=self._names)
        return cases, labels | self._values

    def _exists(self) -> bool:
        return (self._filepath / "dataset.json").is_file()
