"""Schemas of the tables that pass between steps, checked whenever a table is saved or loaded.

`python docs/generate.py` writes docs/reference/tables.md from them.
"""

from typing import Any

from seg_pipeline.segmentation.manifest.column_types import CLASS, Column, Table


def _text(name: str, meaning: str, **more: Any) -> Column:
    return Column(name, "text", meaning, **more)


def _whole(name: str, meaning: str, *, least: float | None = 0, **more: Any) -> Column:
    return Column(name, "integer", meaning, least, **more)


def _number(name: str, meaning: str, *, least: float | None = 0, **more: Any) -> Column:
    return Column(name, "number", meaning, least, **more)


def _share(name: str, meaning: str, *, nullable: bool = True, **more: Any) -> Column:
    return Column(name, "number", meaning, 0, 1, nullable=nullable, **more)


_ID = _text("image_id", "name of the image", unique=True)
_FILES = (
    _text("file", "file, relative to the raw folder"),
    _text("path", "file, absolute"),
)
_PLACE = (
    _text("group", "unit that must not be split, such as a patient or a drive"),
    _text("series", "ordered run of images"),
    _whole("frame", "position in the series", least=None),
    _number(
        "spacing_y",
        "mm per pixel along y, if the file name, the volume, or a TIFF's OME or ImageJ metadata give it",
        nullable=True,
        required=False,
    ),
    _number("spacing_x", "mm per pixel along x", nullable=True, required=False),
    _number("spacing_z", "mm between frames", nullable=True, required=False),
)
_SPLIT = (
    _text("split", "split of the image", one_of=("train", "val", "test")),
    _whole("fold", "fold in which the image is validated, from 0; -1 in the test split", least=-1, most=127),
)

ANNOTATIONS = Table(
    "annotations",
    "Usable rows of the metadata table: one row per mask of an image and class.",
    (
        _whole("row", "line of the metadata table as an editor counts; the header is line 1", least=1),
        _text("image_id", "name of the image"),
        _text("class", 'class name; "(none)" if the row states that its image shows no class'),
        _text("mask", 'run lengths, or id of a mask file; "" if the table states that there is no mask'),
    ),
)

ANNOTATED_IMAGES = Table(
    "annotated_images",
    "Annotations with one row per image.",
    (
        _ID,
        _whole("row", "its first line in the metadata table", least=1),
        Column(f"mask_{CLASS}", "list", "its masks; empty if there is none"),
    ),
)

LOCATED_IMAGES = Table(
    "located_images",
    "Annotated images that have a file. Other columns from the file name are kept as well.",
    (
        *(_ID, *_FILES, *_PLACE),
        _whole("row", "its first line in the metadata table, if the table names it", least=1, nullable=True),
        *ANNOTATED_IMAGES.columns[2:],
    ),
)

MEASURED_IMAGES = Table(
    "measured_images",
    "Readable images with their measurements. Other columns from the file name are kept as well.",
    (
        _ID,
        *_FILES,
        *_PLACE,
        _whole("height", "of the stored image, pixels", least=1),
        _whole("width", "of the stored image, pixels", least=1),
        _whole("channels", "1 for grey, 3 for colour", least=1),
        _text("dtype", "of the stored pixels", one_of=("uint8", "uint16")),
        _whole("intensity_min", "of the stored pixels", most=65535),
        _whole("intensity_max", "of the stored pixels", most=65535),
        _number("intensity_mean", "of the stored pixels", most=65535),
        _text("content_hash", "XXH3, 128 bits, of shape, dtype and decoded pixels"),
        _text(
            "thumbnail",
            "difference hash, 256 bits in hex: which pixels of a tiny copy are brighter than their left neighbour",
        ),
        _text("overlaps", 'pixels shared by two classes: "i+j:pixels ...", where i and j count classes from 0'),
        _text(f"mask_{CLASS}", 'run lengths, row-major, starts from 1; "" if there is no mask'),
        _text("ignore", "run lengths of the unlabelled pixels, which are ignored"),
        _whole(f"area_{CLASS}", "pixels"),
        _share(f"share_{CLASS}", "area as a share of the image", nullable=False),
        _whole(f"objects_{CLASS}", "connected components (8 neighbours), or masks if each is one object"),
        _text(
            f"object_map_{CLASS}",
            'objects as "start length object ...", row-major, starts from 1; only if `dataset.objects` is true',
            required=False,
        ),
    ),
)

SPLITS = Table("splits", "Split and fold of each image.", (_ID, _PLACE[0], *_SPLIT), closed=True)

MANIFEST = Table(
    "manifest",
    "The image table that all later steps read: the measured images with their splits. In a combined manifest a mask "
    'is "?" if the source of the image does not annotate the class.',
    (*MEASURED_IMAGES.columns, *_SPLIT, _text("source", "data set that the image is from", required=False)),
)

TRAIN_VAL_IMAGES = Table(
    "train_val_images",
    "The manifest without the held-out test split. Search, training and the choice of postprocessing see nothing else.",
    (
        *MEASURED_IMAGES.columns,
        _text("split", "split of the image; test is not allowed", one_of=("train", "val")),
        _whole("fold", "fold in which the image is validated, from 0", most=127),
    ),
)

FINDINGS = Table(
    "findings",
    "One row per problem with one input; docs/reference/findings.md explains the rules.",
    (
        _text("image_id", "image with the problem", nullable=True),
        _text("file", "file, relative to the folder that was searched", nullable=True),
        _whole("row", "line of the metadata table; the header is line 1", least=1, nullable=True),
        _text("rule", "name of the problem"),
        _text("reason", "description of the problem with the values found"),
        _text("action", "what was done about it", one_of=("dropped", "repaired", "flagged")),
    ),
    closed=True,
)

CLASS_OVERLAPS = Table(
    "class_overlaps",
    "Pixels shared by each pair of classes, over all images.",
    (
        _text("class", "one class"),
        _text("other", "another one"),
        _whole("images", "images in which they overlap"),
        _whole("pixels", "shared pixels"),
        _share("share", "shared pixels as a share of the smaller class's area", nullable=False),
    ),
    closed=True,
)

PREDICTIONS = Table(
    "predictions",
    "Predicted masks of the test split, at each image's own size.",
    (
        _ID,
        _whole("height", "pixels", least=1),
        _whole("width", "pixels", least=1),
        _text(f"mask_{CLASS}", "run lengths, as in the manifest"),
        _share(f"peak_{CLASS}", "largest probability in the image", nullable=False),
        _share(f"mean_{CLASS}", "mean probability inside the mask; missing if the mask is empty"),
        _text(f"object_map_{CLASS}", "objects, as in the manifest", required=False),
        _share("uncertainty", "of the image, from 0", required=False, nullable=False),
        Column(
            "look_at_this",
            "boolean",
            "whether a person should look at the image; missing if no limit was chosen",
            nullable=True,
            required=False,
        ),
    ),
)

_CLASS = _text("class", "its name")
_NUM_IMAGES = _whole("num_images", "images whose ground truth shows the class")
_HD95 = _number("hd95", "95 % Hausdorff distance, mm or pixels as `distance_unit` says", nullable=True)

IMAGE_SCORES = Table(
    "image_scores",
    "Scores per image and class of the test split. They are missing if neither ground truth nor prediction shows the "
    "class; recall is missing if the ground truth does not. docs/reference/scores.md explains them.",
    (
        _text("image_id", "name of the image"),
        _PLACE[0],
        _PLACE[1],
        _CLASS,
        *(_share(name, "") for name in ("dice", "iou", "precision", "recall")),
        _share("boundary_iou", "IoU of the strips along the borders"),
        _share("surface_dice", "share of the surfaces that lie within the tolerance of each other"),
        _HD95,
        _share("cldice", "clDice of the centrelines; only if `evaluation.measures.cldice` is true", required=False),
        *(_whole(name, "pixels") for name in ("true_pos", "false_pos", "false_neg", "truth_area", "predicted_area")),
        _share("peak", "largest probability in the image", nullable=False),
        *(
            _whole(f"{kind}_objects", f"{meaning}; only if `dataset.objects` is true", required=False)
            for kind, meaning in (
                ("true", "objects in the ground truth"),
                ("predicted", "predicted objects"),
                ("matched", "pairs with an IoU above 0.5"),
            )
        ),
        *(
            _share(name, f"{meaning}; only if `dataset.objects` is true", required=False)
            for name, meaning in (
                ("object_f1", "F1 of the objects at IoU 0.5"),
                ("object_ap", "average precision, mean over IoU 0.5 to 0.95"),
                ("panoptic_quality", "F1 times the mean IoU of the pairs"),
            )
        ),
    ),
    closed=True,
)

_OVERLAP = (_CLASS, _NUM_IMAGES, _share("dice", "of its images, as `aggregation` says"), _share("iou", "the same"))

GROUP_SCORES = Table(
    "group_scores", "Scores per group and class of the test split.", (_PLACE[0], *_OVERLAP), closed=True
)

SERIES_SCORES = Table(
    "series_scores",
    "Scores per series and class of the test split, with volume scores if the series is a volume.",
    (
        _PLACE[1],
        *_OVERLAP,
        _whole("num_missing", "missing frames of the volume", nullable=True),
        _share("volume_dice", "of all voxels together"),
        _HD95,
        _share("surface_dice", "share of the volumes' surfaces that lie within the tolerance of each other"),
    ),
    closed=True,
)

THRESHOLD_CURVE = Table(
    "threshold_curve",
    "Scores on the validation images per threshold, without postprocessing; no rows for multiclass.",
    (
        _CLASS,
        _share("threshold", "probability", nullable=False),
        *(_share(name, "") for name in ("dice", "precision", "recall")),
    ),
    closed=True,
)

RELIABILITY = Table(
    "reliability",
    "Pixels of the test split by predicted probability, in equal bins.",
    (
        _CLASS,
        _whole("bin", "from 0"),
        _share("confidence", "mean probability of the bin's pixels"),
        _share("frequency", "share of the bin's pixels that belong to the class"),
        _whole("pixels", "in the bin"),
        Column("calibrated", "boolean", "whether the temperatures of `postprocessing` were applied"),
    ),
    closed=True,
)

PREDICTION_OPTIONS = Table(
    "prediction_options",
    "Gain and cost of each prediction option on the validation images, without postprocessing.",
    (
        _text("option", "name of the option; plain: one model, one pass over the whole image", unique=True),
        _text("measure", "Dice, or F1 of objects if the model knows objects"),
        _share("score", "mean of that over classes"),
        _number("gain", "of the score over plain", least=-1, most=1, nullable=True),
        _number("gain_low", "lower end of its interval", least=-1, most=1, nullable=True),
        _number("gain_high", "upper end", least=-1, most=1, nullable=True),
        _number("seconds_per_image", "seconds per image on the machine of the run"),
        _number("cost", "seconds per image as a multiple of plain"),
        Column("used", "boolean", "whether the settings of `prediction` use the option"),
    ),
    closed=True,
)

TABLES = tuple(one for one in list(globals().values()) if isinstance(one, Table))
