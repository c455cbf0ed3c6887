"""COCO JSON for CVAT, Roboflow and others; ``formats.coco`` reads it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seg_pipeline.segmentation.formats.coco_masks import coco_counts
from seg_pipeline.segmentation.formats.label_tools.shapes import Picture, Style, paste


def write(folder: Path, pictures: Iterable[Picture], colours: dict[str, str], style: Style) -> None:
    """coco.json: an annotation per region, a polygon or run lengths down the columns."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers = {name: number for number, name in enumerate(colours, start=1)}
    for picture in pictures:
        height, width = picture.size
        images.append({"id": len(images) + 1, "file_name": picture.file, "height": height, "width": width})
        for region in style.regions(picture):
            if region.polygon is None:
                whole = paste(region.mask, region.left, region.top, picture.size)
                segmentation: Any = {"size": [height, width], "counts": coco_counts(whole)}
            else:
                segmentation = [region.polygon.ravel().tolist()]
            annotations.append({
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": numbers[region.label],
                "segmentation": segmentation,
                "bbox": [region.left, region.top, region.mask.shape[1], region.mask.shape[0]],
                "area": int(region.mask.sum()),
                "iscrowd": int(region.polygon is None),  # COCO's readers accept lists of counts only for crowds
            })  # fmt: skip
    categories = [{"id": numbers[name], "name": name, "color": colour} for name, colour in colours.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content), encoding="utf-8")
