"""A drawn abdomen in the layout of the UW-Madison GI tract data: the sample, and load tests of any size.

It is a phantom: nothing in it comes from a patient, and no score on it says anything about patients. Each frame
is a cut at one height through a set of soft bodies (``anatomy.PARTS``). ``drawing`` places them with random
numbers of the case, the day and the frame, so that organs differ between cases, move between days and change
smoothly between frames. An organ without a mask in a frame is not drawn there.

Layout, in the folder passed to ``write_phantom``:

- ``train/case1/case1_day0/scans/slice_0001_144_128_1.50_1.50.png``: 16-bit grey; width before height.
- ``train.csv``: id, class, segmentation; three rows per frame. Run lengths start from 1 and go along rows; an
  empty cell means that there is no mask.
- ``phantom.json``: the settings, the number of frames, and the deliberate faults.

With ``dirty=True`` the end of the table and the last series contain these faults in addition to the clean data:

- ``duplicate_row``: one row repeated;
- ``missing_class``: one row without class and mask;
- ``truncated_file``: one extra frame whose file is cut to half its bytes, with its three rows, all empty;
- ``missing_file``: three rows with masks whose id has no file.
"""

from seg_pipeline.segmentation.phantom.anatomy import CLASSES
from seg_pipeline.segmentation.phantom.layouts import LAYOUTS, write_example
from seg_pipeline.segmentation.phantom.writing import RECORD, write_phantom

__all__ = ["CLASSES", "LAYOUTS", "RECORD", "write_example", "write_phantom"]
