"""Parameters for predictions as annotations of label tools."""

from typing import Literal

from pydantic import Field, field_validator

from seg_pipeline.params.base import Params


class AnnotateParams(Params):
    """The images, and the model that predicts them, are those of `inference`."""

    tools: list[Literal["coco", "cvat", "label_studio", "labelme", "via", "supervisely", "yolo"]] = Field(
        default=["coco", "cvat", "label_studio", "labelme", "via"], min_length=1
    )
    """Tools to write for; coco is for CVAT, Roboflow and others."""
    shapes: Literal["polygons", "masks"] = "polygons"
    """polygons, which are easy to correct, or masks, exact to the pixel. VIA and YOLO have polygons alone, Supervisely
    gets masks."""
    polygon_iou: float = Field(default=0.98, ge=0.5, le=1)
    """Least IoU of a polygon with the region that it outlines; a lower one gives fewer points."""
    images: Literal["reference", "copy"] = "reference"
    """reference: annotations name the images where they are; copy: the images are copied beside the annotations."""
    image_url: str = "/data/local-files/?d={}"
    """Where Label Studio finds an image; {} is its path, from `images/` on if it was copied."""
    output_folder: str | None = None
    """Folder of the annotations; null: `annotations` in 07_model_output."""

    @field_validator("image_url")
    @classmethod
    def _holds_the_path(cls, given: str) -> str:
        if given.count("{}") != 1 or given.count("{") != 1 or given.count("}") != 1:
            raise ValueError("`image_url` must hold {} once, in place of the image's path")
        return given
