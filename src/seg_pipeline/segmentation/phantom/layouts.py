"""Write the phantom in the layouts of other data sets, as an example for each environment under ``conf/``."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from seg_pipeline.segmentation.images.encoding import write_png
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.phantom.anatomy import CLASSES
from seg_pipeline.segmentation.phantom.writing import MADE_BY, RECORD, PhantomSettings, read_settings
from seg_pipeline.segmentation.storage.atomic import beside, replace_folder

COLOURS = ((0, 0, 0), (220, 40, 40), (40, 180, 60), (40, 80, 220))
"""Red, green, blue of the background and of each class."""


class Frame(NamedTuple):
    series: str
    image_id: str
    image: np.ndarray
    """Uint16 (H, W)."""
    masks: np.ndarray
    """Bool (3, H, W)."""

    def labels(self) -> np.ndarray:
        """Uint8 (H, W): 0, or 1 + the class; if classes overlap, the last one."""
        values = np.zeros(self.image.shape, dtype=np.uint8)
        for number, mask in enumerate(self.masks, start=1):
            values[mask] = number
        return values

    def objects(self) -> Iterator[tuple[int, np.ndarray]]:
        """Class and bool mask of each connected object; large ones are cut in two, so that some objects touch."""
        for index, mask in enumerate(self.masks):
            count, parts = cv2.connectedComponents(mask.astype(np.uint8))
            for number in range(1, count):
                part = parts == number
                middle = int(np.flatnonzero(part.any(axis=0)).mean())
                halves = [part & (np.arange(part.shape[1]) <= middle), part & (np.arange(part.shape[1]) > middle)]
                yield from ((index, part_mask) for part_mask in (halves if part.sum() > 150 else [part]))


def write_example(folder: str | os.PathLike[str], *, layout: str, **settings: Any) -> None:
    """Make a clean phantom at ``folder`` in one of the ``LAYOUTS``; the other settings are ``PhantomSettings``.

    An existing example with the same settings is kept; one with other settings is replaced.

    Raises:
        ValueError: the layout is unknown, or ``folder`` holds something other than a phantom.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"phantom: layout must be one of {', '.join(LAYOUTS)}, found {layout!r}")
    folder, requested = Path(folder), PhantomSettings(dirty=False, **settings)
    if read_settings(folder) == {"layout": layout, **settings}:
        return
    with beside(folder, folder=True) as partial:
        LAYOUTS[layout](list(_frames(requested)), partial)
        record = {"made_by": MADE_BY, "settings": {"layout": layout, **settings}}
        (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        replace_folder(partial, folder)


def _frames(settings: PhantomSettings) -> Iterator[Frame]:
    for scan in settings.scans():
        for image_id, image, masks in scan.frames():
            yield Frame(image_id.rsplit("_slice_", 1)[0], image_id, image, masks)


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, image)


def _write_rle_columns(frames: list[Frame], root: Path) -> None:
    """Run lengths down columns, starts from 0."""
    for frame in frames:
        _save(root / "images" / f"{frame.image_id}.png", frame.image)
    with (root / "masks.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("ImageId", "ClassId", "EncodedPixels"))
        for frame in frames:
            for name, mask in zip(CLASSES, frame.masks, strict=True):
                runs = np.array(encode_rle(mask, order="F").split(), dtype=np.int64)
                runs[::2] -= 1
                table.writerow((frame.image_id, name, " ".join(map(str, runs.tolist()))))


def _write_folders(frames: list[Frame], root: Path) -> None:
    """Two folders with equal file names; the masks are indexed, with a palette."""
    from PIL import Image

    (root / "masks").mkdir(parents=True)
    for frame in frames:
        _save(root / "images" / f"{frame.image_id}.png", frame.image)
        mask = Image.fromarray(frame.labels())
        mask.putpalette([value for colour in COLOURS for value in colour])
        mask.save(root / "masks" / f"{frame.image_id}.png")


def _write_colours(frames: list[Frame], root: Path) -> None:
    """Two folders with equal file names; the masks are colour images."""
    for frame in frames:
        _save(root / "images" / f"{frame.image_id}.png", frame.image)
        _save(root / "masks" / f"{frame.image_id}.png", np.array(COLOURS, dtype=np.uint8)[frame.labels()])


def _write_instances(frames: list[Frame], root: Path) -> None:
    """One folder per image, with one binary mask file per object."""
    for frame in frames:
        _save(root / frame.image_id / "images" / f"{frame.image_id}.png", frame.image)
        for number, (index, mask) in enumerate(frame.objects()):
            path = root / frame.image_id / "masks" / f"{CLASSES[index]}-{number}.png"
            _save(path, mask.astype(np.uint8) * 255)


def _write_coco(frames: list[Frame], root: Path) -> None:
    """One annotation per object: polygons for the stomach, otherwise compressed and plain counts alternately."""
    images: list[dict] = []
    annotations: list[dict] = []
    for key, frame in enumerate(frames, start=1):
        file, (height, width) = f"{frame.image_id}.png", frame.image.shape
        _save(root / "images" / file, frame.image)
        images.append({"id": key, "file_name": file, "height": height, "width": width})
        for index, mask in frame.objects():
            segmentation = _polygons(mask) if CLASSES[index] == "stomach" else _counts(mask, len(annotations) % 2 == 0)
            header = {"id": len(annotations) + 1, "image_id": key, "category_id": index + 1, "iscrowd": 0}
            annotations.append({**header, "area": int(mask.sum()), "segmentation": segmentation})
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _counts(mask: np.ndarray, compressed: bool) -> dict[str, Any]:
    from pycocotools import mask as coco

    if compressed:
        encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines along the edges of the outer pixels, to an eighth of a pixel."""
    fine = mask.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    outlines, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((outline.reshape(-1) + 0.5) / 8).tolist() for outline in outlines]


def _write_nifti(frames: list[Frame], root: Path) -> None:
    """One volume per series, and one with its labels; voxels of 1.5 x 1.5 x 3 mm."""
    for series, series_frames in groupby(frames, key=lambda frame: frame.series):
        stack = list(series_frames)
        _save_volume(root / "images" / f"{series}.nii.gz", np.stack([frame.image for frame in stack]).astype(np.int16))
        _save_volume(root / "labels" / f"{series}.nii.gz", np.stack([frame.labels() for frame in stack]))


def _write_nnunet(frames: list[Frame], root: Path) -> None:
    """The volumes of ``_write_nifti``, in nnU-Net's raw layout."""
    _write_nifti(frames, root)
    (root / "images").rename(root / "imagesTr")
    (root / "labels").rename(root / "labelsTr")
    files = sorted((root / "imagesTr").iterdir())
    for path in files:
        path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    content = {
        "channel_names": {"0": "phantom"},
        "labels": {"background": 0, **{name: number for number, name in enumerate(CLASSES, start=1)}},
        "numTraining": len(files),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save_volume(path: Path, values: np.ndarray) -> None:
    """Save (S, H, W) values, ordered from head, front and left, in LPS: reversed, so that reorientation is tested."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    lps = values.transpose(2, 1, 0)[::-1, :, ::-1]  # (to the left, to the back, to the head)
    image = nibabel.Nifti1Image(np.ascontiguousarray(lps), np.diag([-1.5, -1.5, 3.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


LAYOUTS: dict[str, Callable[[list[Frame], Path], None]] = {
    "rle_columns": _write_rle_columns,
    "folders": _write_folders,
    "colours": _write_colours,
    "instances": _write_instances,
    "coco": _write_coco,
    "nifti": _write_nifti,
    "nnunet": _write_nnunet,
}
