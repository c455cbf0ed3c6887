"""Say what a folder holds if it is no segmentation data, or in a form that is not read."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from seg_pipeline.new_data.scanning import SPLIT_WORDS, Contents

FILES = {
    (".svs", ".ndpi", ".scn", ".mrxs"): "whole-slide images; write tiles of them and of their masks as TIFF or PNG",
    (".pcd", ".ply", ".las", ".laz"): "point clouds, which are no images",
    (".shp", ".geojson", ".gpkg"): "outlines on a map; draw them into a mask per image, for example with rasterio",
    (".wav", ".mp3", ".flac"): "sounds, which are no images",
    (".mp4", ".avi", ".mov", ".mkv"): "videos; write their frames as images, `ffmpeg -i FILE images/%06d.png`",
    (".dcm",): "DICOM files; each series needs its own folder, and labels as RTSTRUCT, DICOM SEG or a volume",
    (".mgz", ".mgh", ".img", ".mnc", ".par"): "volumes in a form that is not read; convert them to NIfTI",
    (".npy", ".npz", ".mat", ".h5", ".hdf5", ".zarr"): "arrays; write each image and mask as PNG or TIFF",
    (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"): "archives; unpack them first",
    (".tfrecord", ".lmdb", ".mdb"): "records; write each image and mask as PNG",
}


def hints(contents: Contents) -> Iterator[str]:
    """What the files suggest, one sentence each."""
    for endings, what in FILES.items():
        if number := sum(file.lower().endswith(endings) for file in contents.others):
            yield f"{number} files ({' '.join(endings)}) are {what}"
    texts = [file for file in contents.others if file.endswith(".txt") and "label" in file.lower()]
    lines = [
        (contents.root / file).read_text(errors="replace", encoding="utf-8").splitlines()[:1] for file in texts[:20]
    ]
    numbers = [one[0].split() for one in lines if one]
    if numbers and all(re.fullmatch(r"\d+( [\d.e-]+){4,}", " ".join(one)) for one in numbers):
        if all(len(one) == 5 for one in numbers):
            yield f"{texts[0]} holds YOLO boxes (class x y width height), which give no outlines of objects"
        else:
            yield f"{texts[0]} holds YOLO polygons, but nothing names their classes: put data.yaml with `names` there"
    yield from _of_json(contents)
    yield from _of_tables(contents)
    if xml := [file for file in contents.others if file.endswith(".xml")]:
        yield f"{len(xml)} XML files, such as {xml[0]}: boxes of detection are not read, as they give no outlines"
    if contents.pictures and not contents.masks:
        folders: dict[str, set[str]] = defaultdict(set)
        for file in contents.pictures:
            *above, name = file.split("/")
            if above and above[-1].lower() not in SPLIT_WORDS:
                folders[above[-1]].add(name)
        shared = Counter(name for names in folders.values() for name in names)
        if len(folders) > 1 and all(number < len(folders) for number in shared.values()):
            yield (
                f"the folders {', '.join(sorted(folders)[:4])} look like those of a classification set: images by "
                "class, without masks. Segmentation needs a mask for each image"
            )
        elif not contents.tables and not contents.jsons and not xml:
            yield (
                f"there are {len(contents.pictures)} image files, but none is named as a mask: put masks in masks/, "
                "with the names of their images, or add _mask to their names"
            )
    if not (contents.pictures or contents.volumes or contents.others):
        yield "there is no image in this folder or below it"


def is_panoptic(content: Any) -> bool:
    """Whether a COCO file's annotations are PNG files of an image each, with a list of their segments."""
    annotations = content.get("annotations") if isinstance(content, dict) else None
    return isinstance(annotations, list) and any(
        isinstance(one, dict) and "segments_info" in one for one in annotations
    )


def _of_json(contents: Contents) -> Iterator[str]:
    """COCO files without outlines."""
    for file in contents.jsons[:20]:
        content = contents.content(file)
        if isinstance(content, list) and content and all(isinstance(one, dict) for one in content):
            keys = ", ".join(map(str, content[0]))
            yield f"{file} is a list of {len(content)} entries ({keys}): if it is a table, write it as CSV or JSON " \
                  "Lines (.jsonl)"  # fmt: skip
            continue
        if isinstance(content, dict) and {"project", "file", "metadata"} <= content.keys():
            yield f"{file} is a project of VIA 3, which is not read; JSON of VIA 2 and COCO are"
        annotations = content.get("annotations") if isinstance(content, dict) else None
        some = [one for one in annotations[:200] if isinstance(one, dict)] if isinstance(annotations, list) else []
        if is_panoptic(content):
            yield f"{file} is a COCO file of panoptic segments, which are in PNG files; convert it to instances, for " \
                  "example with panopticapi's panoptic2detection_coco_format.py"  # fmt: skip
            return
        if some and not any(one.get("segmentation") for one in some):
            has = "captions" if "caption" in some[0] else "keypoints" if "keypoints" in some[0] else "boxes"
            yield f"{file} is a COCO file of {has}: its annotations have no `segmentation`, the outline of an object"
            return


BOX = ({"xmin", "ymin", "xmax", "ymax"}, {"x_min", "y_min", "x_max", "y_max"}, {"x1", "y1", "x2", "y2"}, {"bbox"})


def _of_tables(contents: Contents) -> Iterator[str]:
    """Tables of boxes, and of one label per image."""
    for file in contents.tables[:20]:
        if not file.lower().endswith((".csv", ".tsv")):
            continue
        with (contents.root / file).open(encoding="utf-8", errors="replace") as lines:
            head = re.split(r"[,;\t]", lines.readline().strip().lower())
        columns = {one.strip(' "') for one in head}
        if "region_shape_attributes" in columns:
            yield f"{file} is a CSV export of VIA, which is not read: choose Export Annotations (as json)"
        elif any(box <= columns for box in BOX):
            yield f"{file} holds boxes ({', '.join(head)}), which give no outlines of objects"
        elif contents.pictures and not contents.masks and len(columns) == 2 and {"label", "class"} & columns:
            yield f"{file} looks like labels of a classification set: one label per image, without masks"
