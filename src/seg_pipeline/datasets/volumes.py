"""Catalog entries for volumes, which are cut into slices on first load."""

from pathlib import Path
from typing import Any, Literal

import pandas as pd

from seg_pipeline.datasets.described import check_choices, exists, path_or_address
from seg_pipeline.datasets.file_index import ReadOnlyTable
from seg_pipeline.segmentation.formats.fetched import fetch, join_address, local_copy
from seg_pipeline.segmentation.formats.volume_cases import (
    class_labels,
    find_cases,
    name_classes,
    read_nnunet,
    with_lost,
)
from seg_pipeline.segmentation.formats.volumes import Case, Cutting, index_volumes
from seg_pipeline.segmentation.images.listing import fixed_folder

Part = Literal["annotations", "images"]


class VolumeDataset(ReadOnlyTable):
    """Slices of the volumes (NIfTI, NRRD, MetaImage) in ``filepath``: their files or their masks. Read-only.

    ``filepath`` may be an address: the globs' folders are then copied to the folder ``fetched`` beside the slices.

    The class column of the annotations holds label values. Two entries that differ only in ``part`` share the slices;
    see ``segmentation.formats.volumes`` for orientation and intensities.

    Args:
        part: "annotations" (image_id, class, mask) or "images" (a file index).
        images, labels: ``glob`` and ``pattern``, whose group ``series`` names the case; see ``find_cases``.
        slices: ``path``, the folder for the slices (16-bit PNG), ``axis`` (axial, coronal or sagittal) and
            ``rescale``, with ``slope`` and ``intercept``: value in the volume = stored value x slope + intercept;
            null: fitted per volume. ``resample_labels: true`` resamples labels whose grid differs from their image's.
        values: label values by class name; the class column then holds names. ``cell: any``: every label above 0 is an
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
        self._filepath = path_or_address(filepath)
        self._part = part
        self._slices_folder = Path(slices["path"]).absolute()
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
        root, unreadable = self._local_copy()
        cases, labels = self._cases(root)
        images, annotations = index_volumes(
            [with_lost(case, unreadable) for case in cases],
            self._slices_folder,
            self._cutting,
            num_workers=self._num_workers,
        )
        if images["image_id"].isna().all():
            problem = images["problem"].iloc[0]
            raise ValueError(f"{self._filepath}: none of its {len(cases)} cases can be used; the first: {problem}")
        if self._part == "images":
            return images
        return annotations if labels is None else name_classes(annotations, labels)

    def _local_copy(self) -> tuple[Path, dict[Path, str]]:
        """The local folder of the volumes, and why remote files could not be copied, by local path."""
        if isinstance(self._filepath, Path):
            return self._filepath, {}
        store = self._slices_folder.parent / "fetched"
        addresses = dict.fromkeys(join_address(self._filepath, name) for name in self._required_files())
        unreadable = {
            local_copy(file, store): reason for address in addresses for file, reason in fetch(address, store).items()
        }
        for reason in (unreadable[file] for file in unreadable if file.name == "dataset.json"):
            raise ValueError(reason)
        return local_copy(self._filepath, store), unreadable

    def _required_files(self) -> list[str]:
        """Names of the files and folders to read."""
        return [fixed_folder(files["glob"]) for files in (self._images, self._labels)]

    def _cases(self, root: Path) -> tuple[list[Case], dict[str, list[int]] | None]:
        return find_cases(root, images=self._images, labels=self._labels), self._values or None

    def _exists(self) -> bool:
        return exists(self._filepath)


class NnunetDataset(VolumeDataset):
    """Training cases in nnU-Net's raw layout, NIfTI or flat images; classes are named as in dataset.json.

    ``channels`` are the one or three channels of the image; null: all. ``cases`` is a regular expression of case names;
    its group ``group`` is what must not be split. ``values`` replaces the label values of dataset.json.
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
        self._case_pattern = cases

    def _required_files(self) -> list[str]:
        return ["dataset.json", "imagesTr", "labelsTr"]

    def _cases(self, root: Path) -> tuple[list[Case], dict[str, list[int]] | None]:
        cases, labels = read_nnunet(root, channels=self._channels, names=self._case_pattern)
        return cases, labels | self._values

    def _exists(self) -> bool:
        root = self._filepath
        return exists(root / "dataset.json" if isinstance(root, Path) else f"{root}/dataset.json", file=True)
