"""Every rule that a finding can name: what it means and how to fix it.

The findings page shows these texts; `python docs/generate.py` writes docs/reference/findings.md from them.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    about: str
    """What the finding is about: table, files, image, masks, data set or split."""
    meaning: str
    remedy: str


RULES = {
    "missing_value": Rule(
        "table",
        "A row has no image_id or class, or no mask in the format `indexed`. The row is left out. If it has a mask, so "
        "is its image, whose masks are incomplete.",
        "Complete the row.",
    ),
    "blank_line": Rule("table", "A line of the table is blank.", "Nothing to do, or remove the line."),
    "blank_mask": Rule(
        "table",
        "A row names no mask file. The image is taken to have no mask of the class, as with empty run lengths.",
        "Add the name of the mask file, or exclude the image if the class may be present.",
    ),
    "unknown_class": Rule(
        "table",
        "The class column holds a value that `dataset.classes` does not declare. The row is left out. Its image stays, "
        "without objects if it shows no other class.",
        "Declare the class. If you do not want it, there is nothing to do.",
    ),
    "duplicate_row": Rule(
        "table",
        "The same image, class and mask occur again. The first row is kept, so nothing is lost.",
        "Remove the copy. Many duplicates suggest that a table was joined twice.",
    ),
    "conflicting_rows": Rule(
        "table",
        "An image has several masks of one class and `multiple_masks` is `refuse`. The image is left out, because "
        "it is unknown which mask is right.",
        "Correct the table. If the rows are parts of one mask, set `annotations.multiple_masks: merge`.",
    ),
    "class_not_annotated": Rule(
        "table",
        "An image has no row for a class, although this table states empty masks by a row. The class may be "
        "absent, or nobody may have looked; the mask is taken as empty.",
        "Add the row, or exclude the image if the class may be present.",
    ),
    "unusable_annotation": Rule(
        "table",
        "An annotation, such as one in a COCO file, has no usable mask: a polygon with two points, run lengths "
        "that do not fit the image, a category or image that does not exist, or a value that does not match "
        "`annotations.patterns`; or an image of COCO has another size than its file, or shares its file name with "
        "another; or nobody annotated the image in a label tool. Its image is left out.",
        "Fix the annotation that the reason names. For COCO, `invalid_annotations: drop_annotation` in the catalog "
        "leaves out a single annotation instead of its image.",
    ),
    "repaired_annotation": Rule(
        "table",
        "Annotations were used after a repair that the reason names, such as a file found by the last parts of a path "
        "of another computer. There is one finding per table.",
        "Check the example in the reason.",
    ),
    "incomplete_annotation": Rule(
        "table",
        "Another annotation of the image cannot be used, so the image's masks would be incomplete. The image is "
        "left out.",
        "Fix the annotation that has the finding `unusable_annotation` or `missing_value`.",
    ),
    "unusable_file": Rule(
        "files",
        "A volume cannot be cut into slices: it is damaged, its image or labels are missing, or image and labels "
        "do not have the same geometry.",
        "Fix or remove the file that the reason names.",
    ),
    "repaired_file": Rule(
        "files",
        "A volume was used after a repair that the reason names, such as labels resampled to the grid of their image.",
        "Check some of its slices in `sample_sheet.png`.",
    ),
    "row_without_file": Rule(
        "files",
        "No image file has the row's image_id.",
        "Add the file, or fix `pattern` of `image_files`.",
    ),
    "file_without_row": Rule(
        "files",
        "No row names this image. It is left out, because an image without annotation is not the same as an empty one.",
        "Add a row; an empty mask states that the image shows nothing.",
    ),
    "late_file": Rule(
        "files",
        "The file came into the folder while data_processing ran. It is not used.",
        "Run again when the folder is complete.",
    ),
    "duplicate_file": Rule(
        "files",
        "Several files have the same image_id. All of them are left out.",
        "Remove the copies, or change `pattern` so that their ids differ.",
    ),
    "unmatched_name": Rule(
        "files",
        "The file name does not match `pattern`.",
        "Fix the pattern or rename the file.",
    ),
    "mask_without_file": Rule(
        "files",
        "A row names a mask file that does not exist. The image is left out.",
        "Add the file, or correct the row.",
    ),
    "duplicate_mask_file": Rule(
        "files",
        "Several mask files have the id that a row names, such as the same name in two folders or with two endings. "
        "The files and their image are left out.",
        "Remove the copies, or change `pattern` of `mask_files` so that their ids differ.",
    ),
    "mask_file_without_row": Rule(
        "files",
        "No row of a usable image names this mask file.",
        "Add a row if you want to use the mask.",
    ),
    "listed_image": Rule(
        "image",
        "The image is on the list of images to drop or flag.",
        "See `excluded_images` in the catalog and in `data_processing`.",
    ),
    "listed_image_unknown": Rule(
        "image",
        "An entry of that list matches no image.",
        "Correct its pattern, or remove the entry.",
    ),
    "unreadable_image": Rule(
        "image",
        "The file is not an image, is truncated or damaged, has several pages, is larger than "
        "`dataset.reading.max_pixels`, or has pixels or bands that need a setting.",
        "Copy it again from its source, convert it, or set in `dataset.reading` what the reason names.",
    ),
    "io_error": Rule(
        "image",
        "The system reported an error while the file was read, three times (once if permission is missing), or ended "
        "the process that read it three times. The image is left out of this run.",
        "Check the disk, network or memory and run again: the next run reads the file again.",
    ),
    "exif_orientation": Rule(
        "image",
        "The file has an EXIF orientation, and `dataset.reading.orientation` says what is done: `apply` turns the "
        "image, `keep` does not. If the sizes cannot tell whether masks were drawn on the turned picture, the finding "
        "says so. It counts all images of one orientation.",
        "Look at `sample_sheet.png`: if the masks lie beside their objects, set `orientation` to the other value.",
    ),
    "size_differs_from_name": Rule(
        "image",
        "The file name gives another height or width than the header. The header is used.",
        "If all files do this, height and width are swapped in the pattern.",
    ),
    "size_differs_from_list": Rule(
        "image",
        "In the list of new images to predict, the height or width differs from the file's.",
        "Correct the list, or find the file that it means.",
    ),
    "pixel_kind_differs": Rule(
        "image",
        "The dtype or number of channels differs from most images.",
        "Convert these files, or process them separately: their intensities are not comparable.",
    ),
    "blank_image": Rule(
        "image",
        "All pixels are equal.",
        "Check whether the file was exported correctly.",
    ),
    "intensity_outlier": Rule(
        "image",
        "The image is far darker or brighter than the 5 frames around it or, in a shorter series, than all images:"
        " beyond 6 robust standard deviations of log intensity.",
        "Look at it: the cause may be a wrong export, another protocol or the end of a volume.",
    ),
    "equal_images": Rule(
        "image",
        "The pixels equal those of another image. Copies in two splits or folds stop the run.",
        "Check whether their masks agree, then exclude all but one or give them one group.",
    ),
    "similar_images": Rule(
        "image",
        "Images of two groups look alike: fewer than 8 of the 256 bits of their thumbnails differ. Each pair of groups"
        " has one finding, with the number of such images and three examples.",
        "If both have the same origin, give them one group; otherwise the test split is not independent.",
    ),
    "unreadable_mask": Rule(
        "masks",
        "The mask file is not an image, or is truncated or damaged.",
        "Copy it again from its source.",
    ),
    "rle_malformed": Rule(
        "masks",
        "The run lengths are not pairs of whole numbers, with lengths of at least 1.",
        "Correct the cell. The cause may also be a wrong mask column.",
    ),
    "rle_out_of_bounds": Rule(
        "masks",
        "A run lies outside the image.",
        "If there are many, `rle_first` is wrong, or height and width are swapped.",
    ),
    "rle_unsorted": Rule(
        "masks",
        "Runs overlap or are not in ascending order.",
        "Encode the mask again; the cell may hold several masks.",
    ),
    "inverted_masks_suspected": Rule(
        "data set",
        "The only class covers more than half of the images and of their border, on average: are the objects black and "
        "the background white? Needs 8 images with the class.",
        "Look at `sample_sheet.png`. If the masks are inverted, use `mask_format: indexed` with 0 as the value of the "
        "class and 255 among `annotations.background_values`, or invert the files.",
    ),
    "rle_order_suspected": Rule(
        "data set",
        "The run lengths fit the other order better than the declared one. If the images are not square, masks "
        "fall into more than twice as many objects as in the other order. If nearly all are square (the wrong "
        "order only mirrors their masks at the diagonal), 3 of 4 outlines lie on stronger image edges in the other"
        " order. Up to 200 masks are checked.",
        "Set `annotations.rle_order` to the other value and look at `sample_sheet.png`. If photos have an EXIF "
        "orientation, first set `dataset.reading.orientation` to the other value: their masks may have been drawn "
        "before the turn.",
    ),
    "mask_size_differs": Rule(
        "masks",
        "The height or width of the mask file differs from the image's.",
        "Export the mask at the image's size. If only the scale differs, set `annotations.resample_masks: true`.",
    ),
    "mask_resampled": Rule(
        "masks",
        "The mask file was scaled to its image, because `annotations.resample_masks` is set.",
        "Nothing to do; outlines are as coarse as the smaller of the two.",
    ),
    "mask_turned": Rule(
        "masks",
        "The mask file has the size of the image before its EXIF orientation turned it. It was turned in the same way.",
        "Nothing to do.",
    ),
    "lossy_mask": Rule(
        "masks",
        "The mask file was saved with lossy compression such as JPEG, which changes values, or holds other values than "
        "the declared ones, which `nearest_value` replaced. If classes have neighbouring values, one may have become "
        "another.",
        "Export the mask as PNG.",
    ),
    "mask_in_colour": Rule(
        "masks",
        "The mask file is a colour image.",
        "Export it with a palette or as grey values.",
    ),
    "mask_not_binary": Rule(
        "masks",
        "A binary mask holds more than one value besides 0.",
        "If the values are class ids, set `annotations.mask_format: indexed`. If it is a JPEG, export it again as PNG.",
    ),
    "binary_mask_as_ids": Rule(
        "masks",
        "A mask that is read as class ids holds only 0 and 255.",
        "Set `annotations.mask_format: files`.",
    ),
    "unknown_class_value": Rule(
        "masks",
        "An indexed mask holds an undeclared value.",
        "Declare the value as a class, or list it in `background_values` or `ignore_values`.",
    ),
    "overlapping_classes": Rule(
        "masks",
        "Classes overlap in a multiclass data set. Pixels of several classes are ignored.",
        "If classes may overlap, set `dataset.task: multilabel`. `class_overlaps.parquet` lists all pairs.",
    ),
    "partly_annotated_class": Rule(
        "masks",
        "`combine` makes one class of several, and the image annotates only some of them. Where the others are is "
        "unknown, so the image counts as not annotated for the class, and its pixels of it are not used.",
        "Keep the classes apart, or leave the one that is not annotated out with null.",
    ),
    "mask_jumps": Rule(
        "masks",
        "A class appears, disappears or changes its area more than fourfold in a single frame, while the masks of "
        "the frames before and after agree (IoU of at least 0.5).",
        "Look at the three frames: a mask may be missing or belong to another frame.",
    ),
    "leak_between_splits": Rule(
        "split",
        "A group, or equal images, are in two splits or folds. This stops the run unless `allow_leakage` is set; a"
        " split by time divides groups on purpose.",
        "Split by group and exclude copies.",
    ),
    "class_missing_from_split": Rule(
        "split",
        "A split has no pixel of a class, or no image at all, so its scores there are undefined.",
        "Change the shares or the `seed`, or add groups; otherwise mention it beside the scores.",
    ),
    "fewer_folds": Rule(
        "split",
        "There are fewer folds than `split.folds`, because there are fewer groups.",
        "Nothing to do, or set `split.grouped: false`.",
    ),
}
