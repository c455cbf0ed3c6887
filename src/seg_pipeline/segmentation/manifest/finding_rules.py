"""Every rule that a finding can name: what it means, and what to do.

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
    "missing_value": Rule(
        "table", "A row lacks its image_id, class or mask.", "Complete the row; until then it is left out."
    ),
    "unknown_class": Rule(
        "table",
        "The class column holds a value that `dataset.classes` does not declare.",
        "Declare the class, or leave it so where the class is not wanted.",
    ),
    "duplicate_row": Rule(
        "table",
        "The same image, class and mask again.",
        "Nothing is lost: the first is kept. Many of them point to tables that were joined twice.",
    ),
    "conflicting_rows": Rule(
        "table",
        "One image has several masks of one class, and `multiple_masks` is `refuse`. The image is left out, as "
        "the right one cannot be told.",
        "Correct the table; where the rows are parts of one mask set `annotations.multiple_masks: merge`.",
    ),
    "class_not_annotated": Rule(
        "table",
        "An image has no row for a class, in a table that elsewhere states empty masks by a row. No row means here "
        "that nobody looked, an empty one that there is nothing; it is taken as empty.",
        "Add the rows, or exclude the images where the class may be there.",
    ),
    "unusable_annotation": Rule(
        "table",
        "An annotation of a file such as COCO's has no usable mask: a polygon of two points, run lengths that do not "
        "fit, a category or an image that is not there. Its image is left out.",
        "Mend the annotation that the reason names.",
    ),
    "incomplete_annotation": Rule(
        "table",
        "Another annotation of the image cannot be used, so its masks would lack something; it is left out.",
        "Mend the one that has the finding `unusable_annotation`.",
    ),
    "unusable_file": Rule(
        "files",
        "A volume cannot be cut into slices: it is damaged, has no labels or no image, or does not lie as its labels.",
        "Mend or remove what the reason names.",
    ),
    "row_without_file": Rule(
        "files", "No image file has the image_id of a row.", "Find the file, or mend `pattern` of `image_files`."
    ),
    "file_without_row": Rule(
        "files",
        "No row names the image: it is not annotated, which is not the same as empty, and is left out.",
        "Add a row; an empty mask says that there is nothing.",
    ),
    "duplicate_file": Rule(
        "files",
        "Several files have one image_id; all are left out.",
        "Remove the copies, or make `pattern` tell them apart.",
    ),
    "unmatched_name": Rule("files", "A file's name does not fit `pattern`.", "Mend the pattern or the name."),
    "mask_without_file": Rule(
        "files", "A row names a mask file that is not there; the image is left out.", "Find the file, or mend the row."
    ),
    "mask_file_without_row": Rule("files", "No row names the mask file.", "Add the row if the mask is wanted."),
    "listed_image": Rule(
        "image", "The image is on the list of images to drop or flag.", "See `excluded_images` and `exclude`."
    ),
    "listed_image_unknown": Rule("image", "An entry of that list fits no image.", "Correct its pattern, or remove it."),
    "unreadable_image": Rule(
        "image",
        "The file is no image, is cut off or damaged, claims to be larger than is decoded, or has pixels that are "
        "neither uint8 nor uint16.",
        "Copy it anew from its source, or convert it.",
    ),
    "size_differs_from_name": Rule(
        "image",
        "The name tells another height or width than the header, which is used.",
        "Where all do so, the pattern has height and width swapped.",
    ),
    "size_differs_from_list": Rule(
        "image",
        "Of new images to predict: the list says another height or width than the file has.",
        "Correct the list, or find the file that it means.",
    ),
    "pixel_kind_differs": Rule(
        "image",
        "Other dtype or number of channels than most images have.",
        "Convert these files, or keep them apart: a network sees their brightness otherwise.",
    ),
    "blank_image": Rule("image", "All pixels are equal.", "Look whether the file was exported rightly."),
    "intensity_outlier": Rule(
        "image",
        "Far darker or brighter than the 5 frames around it, or than all images where its series is shorter: beyond "
        "6 robust standard deviations of log intensity.",
        "Look at it: a wrong export, another protocol, or the end of a volume.",
    ),
    "equal_images": Rule(
        "image",
        "Its pixels equal those of another image. Across two splits or folds this stops the run.",
        "Exclude all but one, or give them one group. Look first whether their masks agree.",
    ),
    "similar_images": Rule(
        "image",
        "It looks like an image of another group: of the 256 bits of their thumbnails fewer than 8 differ.",
        "If they are of one origin, give them one group, or the test split is not independent.",
    ),
    "unreadable_mask": Rule(
        "masks", "The mask file is no image, or is cut off or damaged.", "Copy it anew from its source."
    ),
    "rle_malformed": Rule(
        "masks",
        "The run lengths are no pairs of whole numbers from 1 on.",
        "Correct the cell; a wrong column looks so too.",
    ),
    "rle_out_of_bounds": Rule(
        "masks",
        "A run lies outside the image.",
        "Where many do, `rle_first`, or height and width, are wrong.",
    ),
    "rle_unsorted": Rule(
        "masks",
        "Runs overlap or are not in rising order.",
        "Encode the mask anew; it may be several masks in one cell.",
    ),
    "rle_order_suspected": Rule(
        "data set",
        "The run lengths make more sense in the order that was not declared: masks of images that are not square "
        "fall into more than twice as many objects as in the other order, or, where nearly all are square (their masks "
        "are then mirrored at the diagonal and stay whole), 3 of 4 outlines lie on stronger edges of the image in "
        "the other order. Up to 200 masks are looked at.",
        "Set `annotations.rle_order` to the other value and look at `sample_sheet.png`.",
    ),
    "mask_size_differs": Rule(
        "masks", "The mask file's height and width are not the image's.", "Export it at the image's size."
    ),
    "mask_in_colour": Rule(
        "masks", "The mask file is a colour picture.", "Export it with a palette or as grey values."
    ),
    "mask_not_binary": Rule(
        "masks",
        "A binary mask holds more than one value beside 0.",
        "If they are class ids set `annotations.mask_format: indexed`; a JPEG has to be exported anew as PNG.",
    ),
    "binary_mask_as_ids": Rule(
        "masks", "A mask that is read as class ids holds 0 and 255 only.", "Set `annotations.mask_format: files`."
    ),
    "unknown_class_value": Rule(
        "masks",
        "An indexed mask holds a value that is not declared.",
        "Declare it as a class, or under `background_values` or `ignore_values`.",
    ),
    "overlapping_classes": Rule(
        "masks",
        "Classes overlap in a multiclass data set; pixels that several claim count nowhere.",
        "Set `dataset.task: multilabel` where overlap is meant. `class_overlaps.parquet` has all pairs.",
    ),
    "mask_jumps": Rule(
        "masks",
        "A class comes, goes or changes its area more than fourfold for one frame only, while its masks in the "
        "frames before and after agree (IoU from 0.5).",
        "Look at the three frames: a mask was forgotten, or put on the wrong frame.",
    ),
    "leak_between_splits": Rule(
        "split",
        "A group, or equal pixels, lie in two splits or folds. Stops the run unless `allow_leakage` is set, or the "
        "splits are cut by time, which divides groups on purpose.",
        "Split by group; exclude copies.",
    ),
    "class_missing_from_split": Rule(
        "split",
        "A split has no pixel of a class; its scores there are undefined.",
        "Other shares, another `seed`, more groups; or say so beside the scores.",
    ),
    "fewer_folds": Rule(
        "split", "Fewer folds than `split.folds`, as there are fewer groups.", "Nothing, or `split.grouped: false`."
    ),
}
