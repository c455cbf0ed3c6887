"""Parameters for writing predictions as annotations for label tools."""

from typing import Literal

from pydantic import Field, field_validator

from seg_pipeline.params.base import Params


class AnnotateParams(Params):
    """Images and model come from the parameters of `inference`."""

    tools: list[Literal["coco", "cvat", "label_studio", "labelme", "via", "supervisely", "yolo"]] = Field(
        default=["coco", "cvat", "label_studio", "labelme", "via"], min_length=1
    )
    """Tools to write for; coco is for CVAT, Roboflow and others."""
    shapes: Literal["polygons", "masks"] = "polygons"
    """polygons are easy to correct; masks are exact to the pixel. VIA and YOLO support only polygons; Supervisely
    always gets masks."""
    polygon_iou: float = Field(default=0.98, ge=0.5, le=1)
    """Minimum IoU of a polygon with its region; lower values give fewer points."""
    images: Literal["reference", "copy"] = "reference"
    """reference: annotations refer to the original image files; copy: the images are copied beside the annotations."""
    image_url: str = "/data/local-files/?d={}"
    """Address of an image in Label Studio; {} stands for its path, which starts with `images/` if it was copied."""
    output_folder: str | None = None
    """Folder for the annotations; null: `annotations` in 07_model_output."""

    @field_validator("image_url")
    @classmethod
    def _check_placeholder(cls, image_url: str) -> str:
        if image_url.count("{}") != 1 or image_url.count("{") != 1 or image_url.count("}") != 1:
            raise ValueError("`image_url` must contain {} once, where the image's path goes")
        return image_url
