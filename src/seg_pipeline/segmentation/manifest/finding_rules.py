"""Every rule that a finding can name, what it means and what to do about it.

`python docs/generate.py` writes docs/reference/findings.md from them; the findings page shows the same words.
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    about: str
    """What it is about: table, files, image, masks, data set or split."""
    meaning: str
    remedy: str


RULES = {
    "missing_value": Rule("table", "A row lacks its image_id, class or mask.", "Complete the row."),
    "unknown_class": Rule(
        "table",
        "The class column holds a value that `dataset.classes` does not declare.",
        "Declare the class, or ignore the finding if you do not want it.",
    ),
    "duplicate_row": Rule(
        "table",
        "The row repeats the image, class and mask of another row.",
        "Nothing is lost: the first row is kept. Many duplicates suggest that tables were joined twice.",
    ),
    "conflicting_rows": Rule(
        "table",
        "One image has several masks of one class, and `multiple_masks` is `refuse`. The image is left out, because "
        "the correct mask is unknown.",
        "Correct the table. If the rows are parts of one mask, set `annotations.multiple_masks: merge`.",
    ),
    "class_not_annotated": Rule(
        "table",
        "An image has no row for a class, although the table states empty masks by a row elsewhere. So a missing row "
        "may mean that nobody looked. The mask is taken as empty.",
        "Add the rows, or exclude the images that may show the class.",
    ),
    "unusable_annotation": Rule(
        "table",
        "An annotation (of COCO, for example) has no usable mask: a polygon of two points, run lengths that do not "
        "fit, an unknown category or image. Its image is left out.",
        "Fix the annotation that the reason names.",
    ),
    "incomplete_annotation": Rule(
        "table",
        "Another annotation of the image cannot be used, so the image is left out rather than used with masks missing.",
        "Fix the annotation with the finding `unusable_annotation`.",
    ),
    "unusable_file": Rule(
        "files",
        "A volume cannot be cut into slices: it is damaged, lacks its labels or image, or has another orientation "
        "than they.",
        "Fix or remove what the reason names.",
    ),
    "row_without_file": Rule(
        "files", "No image file has the image_id of a row.", "Find the file, or fix `pattern` of `image_files`."
    ),
    "file_without_row": Rule(
        "files",
        "No row names the image. It is left out, because not annotated is not the same as empty.",
        "Add a row; an empty mask means that nothing is there.",
    ),
    "duplicate_file": Rule(
        "files",
        "Several files have the same image_id; all are left out.",
        "Remove the copies, or change `pattern` so that it tells them apart.",
    ),
    "unmatched_name": Rule("files", "A file's name does not fit `pattern`.", "Fix the pattern or the name."),
    "mask_without_file": Rule(
        "files", "A row names a mask file that does not exist; the image is left out.", "Find the file, or fix the row."
    ),
    "mask_file_without_row": Rule("files", "No row names the mask file.", "Add a row if you want the mask."),
    "listed_image": Rule("image", "The image is on the list of images to drop or flag.", "See `excluded_images`."),
    "listed_image_unknown": Rule(
        "image", "An entry of that list matches no image.", "Correct its pattern, or remove it."
    ),
    "unreadable_image": Rule(
        "image",
        "The file is not an image, is truncated or damaged, is larger than the limit, or has pixels that are neither "
        "uint8 nor uint16.",
        "Copy it again from its source, or convert it.",
    ),
    "size_differs_from_name": Rule(
        "image",
        "The file name gives another height or width than the header, which is used.",
        "If all files do, the pattern has height and width swapped.",
    ),
    "size_differs_from_list": Rule(
        "image",
        "A list of new images gives another height or width than the file has.",
        "Correct the list, or find the intended file.",
    ),
    "pixel_kind_differs": Rule(
        "image",
        "The image has another dtype or number of channels than most images.",
        "Convert these files, or keep them in a separate data set: the network would see other intensities.",
    ),
    "blank_image": Rule("image", "All pixels are equal.", "Check if the file was exported correctly."),
    "intensity_outlier": Rule(
        "image",
        "The image is far darker or brighter than the 5 frames around it (or than all images, if its series is "
        "shorter): more than 6 robust standard deviations of log intensity.",
        "Look at it: a wrong export, another protocol, or the end of a volume?",
    ),
    "equal_images": Rule(
        "image",
        "The pixels equal those of another image. Between two splits or folds this stops the run.",
        "Check if their masks agree; then exclude all but one, or give them one group.",
    ),
    "similar_images": Rule(
        "image",
        "The image looks like one of another group: fewer than 8 of the 256 bits of their thumbnails differ.",
        "If they have the same origin, give them one group; otherwise the test split is not independent.",
    ),
    "unreadable_mask": Rule(
        "masks", "The mask file is not an image, or is truncated or damaged.", "Copy it again from its source."
    ),
    "rle_malformed": Rule(
        "masks",
        "The run lengths are not pairs of whole numbers of at least 1.",
        "Correct the cell. A wrong column looks the same.",
    ),
    "rle_out_of_bounds": Rule(
        "masks",
        "A run lies outside the image.",
        "If many do, `rle_first`, or height and width, are wrong.",
    ),
    "rle_unsorted": Rule(
        "masks",
        "Runs overlap or are not in ascending order.",
        "Encode the mask again; the cell may hold several masks.",
    ),
    "rle_order_suspected": Rule(
        "data set",
        "The run lengths fit the other order better than the declared one: masks fall into more than twice as many "
        "objects, or, if nearly all images are square, 3 of 4 outlines lie on stronger image edges in the other "
        "order. Up to 200 masks are examined.",
        "Set `annotations.rle_order` to the other value and look at `sample_sheet.png`.",
    ),
    "mask_size_differs": Rule(
        "masks", "The mask file has another height or width than the image.", "Export it at the image's size."
    ),
    "mask_in_colour": Rule("masks", "The mask file is a colour image.", "Export it with a palette or as grey values."),
    "mask_not_binary": Rule(
        "masks",
        "A binary mask has more than one value besides 0.",
        "If they are class ids set `annotations.mask_format: indexed`; export a JPEG again as PNG.",
    ),
    "binary_mask_as_ids": Rule(
        "masks", "A mask that should hold class ids has only 0 and 255.", "Set `annotations.mask_format: files`."
    ),
    "unknown_class_value": Rule(
        "masks",
        "An indexed mask has an undeclared value.",
        "Declare it as a class, or under `background_values` or `ignore_values`.",
    ),
    "overlapping_classes": Rule(
        "masks",
        "Classes overlap in a multiclass data set; pixels of several classes are ignored.",
        "If overlap is intended, set `dataset.task: multilabel`. `class_overlaps.parquet` lists all pairs.",
    ),
    "mask_jumps": Rule(
        "masks",
        "A class appears, disappears or changes its area more than fourfold for a single frame, although its masks "
        "before and after agree (IoU of at least 0.5).",
        "Look at the three frames: a mask may be missing or on the wrong frame.",
    ),
    "leak_between_splits": Rule(
        "split",
        "A group or identical images are in two splits or folds. This stops the run unless `allow_leakage` is set, "
        "or the splits are made by time, which divides groups on purpose.",
        "Split by group; exclude copies.",
    ),
    "class_missing_from_split": Rule(
        "split",
        "A split has no pixel of a class, so its scores there are undefined.",
        "Use other shares, another `seed` or more groups, or mention it beside the scores.",
    ),
    "fewer_folds": Rule(
        "split",
        "There are fewer folds than `split.folds`, because there are fewer groups.",
        "Accept it, or set `split.grouped: false`.",
    ),
}
