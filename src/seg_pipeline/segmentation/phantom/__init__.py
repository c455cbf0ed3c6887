"""A drawn abdomen in the layout of the UW-Madison GI tract data: the sample, and load tests of any size.

It is a phantom: nothing in it comes from a patient, and no score on it says anything about patients. Each
frame cuts one set of soft bodies (``anatomy.PARTS``) at a height; ``drawing`` places them from three random
numbers, of the case, the day and the frame, so organs differ from case to case, move from day to day and
change smoothly from frame to frame. An organ without a mask in a frame is not drawn there.

Layout, below the folder that ``write_phantom`` is given:

- ``train/case1/case1_day0/scans/slice_0001_144_128_1.50_1.50.png``: 16-bit grey; width before height.
- ``train.csv``: id, class, segmentation; three rows per frame. Run lengths start from 1 and go along rows; an
  empty cell means that there is no mask.
- ``phantom.json``: the settings, the number of frames, and the deliberate faults.

With ``dirty=True`` the end of the table and the last series contain these faults in addition to the clean data:

- ``duplicate_row``: one row once more;
- ``missing_class``: one row without class and mask;
- ``truncated_file``: one extra frame whose file is cut to half its bytes, with its three rows, all empty;
- ``missing_file``: three rows with masks whose id has no file.
"""

from seg_pipeline.segmentation.phantom.anatomy import CLASSES
from seg_pipeline.segmentation.phantom.layouts import LAYOUTS, write_example
from seg_pipeline.segmentation.phantom.writing import RECORD, write_phantom

__all__ = ["CLASSES", "LAYOUTS", "RECORD", "write_example", "write_phantom"]
