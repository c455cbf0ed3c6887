"""Read other formats (COCO, NIfTI, nnU-Net) into the two tables that data_processing starts from; write nnU-Net's.

- annotations: image_id, class, mask (run lengths, row-major, starts from 1; missing: no mask), one row per
  mask, and one row of the class ``NO_CLASS`` for an image without any;
- images: image_id, path, file, group, series, frame and other columns, one row per image.

Both may have a column ``problem``: why the row cannot be used. data_processing turns each problem into a
finding, so that one broken file does not stop the others.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"nnunet": ["write_nnunet"], "label_tools": ["Style"]}
)
