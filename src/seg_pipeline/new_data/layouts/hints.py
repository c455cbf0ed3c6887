"""Say what a folder holds if it is no segmentation data, or in a form that is not read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from seg_pipeline.new_data.scanning import SPLIT_WORDS, Contents

FILES = {
    (".mp4", ".avi", ".mov", ".mkv"): "videos; write their frames as images, `ffmpeg -i FILE images/%06d.png`",
    (".dcm",): "DICOM files; each series needs its own folder, and labels as RTSTRUCT, DICOM SEG or a volume",
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
    if lines and all(re.fullmatch(r"\d+( [\d.e-]+){4}", one[0].strip()) for one in lines if one):
        yield f"{texts[0]} holds YOLO boxes (class x y width height), which give no outlines of objects"
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
        elif not contents.tables and not contents.jsons:
            yield (
                f"there are {len(contents.pictures)} image files, but none is named as a mask: put masks in masks/, "
                "with the names of their images, or add _mask to their names"
            )
