"""The tables that pass between steps: each column declared once, checked wherever a table is saved or loaded.

`python docs/generate.py` writes docs/reference/tables.md from them.
"""

from __future__ import annotations

from seg_pipeline.segmentation.manifest.column_types import CLASS, Column, Table

_ID = Column("image_id", "text", "name of the image", unique=True)
_FILES = (
    Column("file", "text", "file, relative to the raw folder"),
    Column("path", "text", "file, absolute"),
)
_PLACE = (
    Column("group", "text", "what must not be split: a patient, a drive"),
    Column("series", "text", "ordered run of images"),
    Column("frame", "integer", "position in the series"),
    Column("spacing_y", "number", "mm a pixel, where the file's name gives it", least=0, nullable=True, required=False),
    Column("spacing_x", "number", "the same across", least=0, nullable=True, required=False),
)
_SPLIT = (
    Column("split", "text", "what the image is for", one_of=("train", "val", "test")),
    Column("fold", "integer", "fold in which the image validates, from 0; -1 in the test split", least=-1, most=127),
)

ANNOTATIONS = Table(
    "annotations",
    "Rows of the metadata table that can be used: this image has this mask of this class.",
    (
        Column("row", "integer", "line of the metadata table as an editor counts; the header is line 1", least=1),
        Column("image_id", "text", "name of the image"),
        Column("class", "text", '"(none)" where the row says that its image shows no class; else its name'),
        Column("mask", "text", 'run lengths or id of a mask file; "" where the table says: no mask'),
    ),
)

ANNOTATED_IMAGES = Table(
    "annotated_images",
    "The same, one row an image.",
    (
        _ID,
        Column("row", "integer", "its first line in the metadata table", least=1),
        Column(f"mask_{CLASS}", "list", "its masks; empty where there is none"),
    ),
)

LOCATED_IMAGES = Table(
    "located_images",
    "Annotated images that have a file; what else the file's name tells is kept beside these columns.",
    (
        *(_ID, *_FILES, *_PLACE),
        Column("row", "integer", "its first line in the metadata table, where that names it", least=1, nullable=True),
        *ANNOTATED_IMAGES.columns[2:],
    ),
)

MEASURED_IMAGES = Table(
    "measured_images",
    "Images that could be read, with what they show. What else the file's name tells is kept beside these columns.",
    (
        _ID,
        *_FILES,
        *_PLACE,
        Column("height", "integer", "of the stored image, pixels", least=1),
        Column("width", "integer", "of the stored image, pixels", least=1),
        Column("channels", "integer", "1 for grey, 3 for colour", least=1),
        Column("dtype", "text", "of the stored pixels", one_of=("uint8", "uint16")),
        Column("intensity_min", "integer", "of the stored pixels", least=0, most=65535),
        Column("intensity_max", "integer", "of the stored pixels", least=0, most=65535),
        Column("intensity_mean", "number", "of the stored pixels", least=0, most=65535),
        Column("content_hash", "text", "XXH3, 128 bits, of shape, dtype and decoded pixels"),
        Column("thumbnail", "text", "256 bits, in hex, of which pixel of a tiny copy is brighter than its neighbour"),
        Column("overlaps", "text", 'pixels that two classes share: "i+j:pixels ...", i and j counting classes from 0'),
        Column(f"mask_{CLASS}", "text", 'run lengths, row-major, starts from 1; "" where there is none'),
        Column("ignore", "text", "run lengths of the pixels whose truth is not known"),
        Column(f"area_{CLASS}", "integer", "pixels", least=0),
        Column(f"share_{CLASS}", "number", "area as a share of the image", least=0, most=1),
        Column(
            f"objects_{CLASS}",
            "integer",
            "connected components (8 neighbours), or the masks where each is an object",
            least=0,
        ),
    ),
)

SPLITS = Table("splits", "Split and fold of each image.", (_ID, _PLACE[0], *_SPLIT), closed=True)

MANIFEST = Table(
    "manifest",
    "The image table that all later steps read: the measured images with their splits.",
    (*MEASURED_IMAGES.columns, *_SPLIT),
)

TRAIN_VAL_IMAGES = Table(
    "train_val_images",
    "The manifest without the test split, which is held out: all that search, training and the choice of "
    "postprocessing see.",
    (
        *MEASURED_IMAGES.columns,
        Column("split", "text", "what the image is for; no test image may be here", one_of=("train", "val")),
        Column("fold", "integer", "fold in which the image validates, from 0", least=0, most=127),
    ),
)

FINDINGS = Table(
    "findings",
    "One row for each thing that is wrong with one input; docs/reference/findings.md explains the rules.",
    (
        Column("image_id", "text", "image that it is about", nullable=True),
        Column("file", "text", "file, relative to the folder that was searched", nullable=True),
        Column("row", "integer", "line of the metadata table; the header is line 1", least=1, nullable=True),
        Column("rule", "text", "what is wrong, in a word"),
        Column("reason", "text", "the same in a sentence, with the values found"),
        Column("action", "text", "what was done about it", one_of=("dropped", "repaired", "flagged")),
    ),
    closed=True,
)

CLASS_OVERLAPS = Table(
    "class_overlaps",
    "Pixels that each pair of classes shares, over all images.",
    (
        Column("class", "text", "one class"),
        Column("other", "text", "another one"),
        Column("images", "integer", "in which they overlap", least=0),
        Column("pixels", "integer", "that they share", least=0),
        Column("share", "number", "the same as a share of the smaller class's area", least=0, most=1),
    ),
    closed=True,
)

PREDICTIONS = Table(
    "predictions",
    "Predicted masks of the test split, at each image's own size.",
    (
        _ID,
        Column("height", "integer", "pixels", least=1),
        Column("width", "integer", "pixels", least=1),
        Column(f"mask_{CLASS}", "text", "run lengths, as the manifest's"),
        Column(f"peak_{CLASS}", "number", "largest probability in the image", least=0, most=1),
        Column(
            f"mean_{CLASS}",
            "number",
            "mean probability inside the mask; missing where it is empty",
            0,
            1,
            nullable=True,
        ),
    ),
)

_CLASS = Column("class", "text", "its name")
_NUM_IMAGES = Column("num_images", "integer", "whose truth shows the class", least=0)


def _share(name: str, meaning: str) -> Column:
    return Column(name, "number", meaning, least=0, most=1, nullable=True)


_HD95 = Column(
    "hd95", "number", "95 % Hausdorff distance, mm or pixels as `distance_unit` says", least=0, nullable=True
)

IMAGE_SCORES = Table(
    "image_scores",
    "Scores of each image and class of the test split; missing where neither truth nor prediction shows the class, "
    "and recall where the truth does not. docs/reference/scores.md explains them.",
    (
        Column("image_id", "text", "name of the image"),
        _PLACE[0],
        _PLACE[1],
        _CLASS,
        *(_share(name, "") for name in ("dice", "iou", "precision", "recall")),
        _share("boundary_iou", "IoU of the strips along the borders"),
        _share("surface_dice", "share of the surfaces that lie within the tolerance of each other"),
        _HD95,
        Column("true_pos", "integer", "pixels", least=0),
        Column("false_pos", "integer", "pixels", least=0),
        Column("false_neg", "integer", "pixels", least=0),
        Column("truth_area", "integer", "pixels", least=0),
        Column("predicted_area", "integer", "pixels", least=0),
        Column("peak", "number", "largest probability in the image", least=0, most=1),
    ),
    closed=True,
)

_OVERLAP = (_CLASS, _NUM_IMAGES, _share("dice", "of its images, as `aggregation` says"), _share("iou", "the same"))

GROUP_SCORES = Table(
    "group_scores", "Scores of each group and class of the test split.", (_PLACE[0], *_OVERLAP), closed=True
)

SERIES_SCORES = Table(
    "series_scores",
    "Scores of each series and class of the test split, and those of its volume; missing where it is none.",
    (
        _PLACE[1],
        *_OVERLAP,
        Column("num_missing", "integer", "frames of the volume that there are not", least=0, nullable=True),
        _share("volume_dice", "of all voxels together"),
        _HD95,
        _share("surface_dice", "share of the volumes' surfaces that lie within the tolerance of each other"),
    ),
    closed=True,
)

THRESHOLD_CURVE = Table(
    "threshold_curve",
    "Scores of bare masks of validation images by the threshold; no rows for multiclass.",
    (
        _CLASS,
        Column("threshold", "number", "probability", least=0, most=1),
        *(_share(name, "") for name in ("dice", "precision", "recall")),
    ),
    closed=True,
)

RELIABILITY = Table(
    "reliability",
    "Pixels of the test split by the probability that was given to them, in equal bins.",
    (
        _CLASS,
        Column("bin", "integer", "from 0", least=0),
        _share("confidence", "mean probability of the bin's pixels"),
        _share("frequency", "share of them that is of the class"),
        Column("pixels", "integer", "in the bin", least=0),
    ),
    closed=True,
)

PREDICTION_OPTIONS = Table(
    "prediction_options",
    "What each way to predict gains and costs on validation images, with bare masks.",
    (
        Column("option", "text", "plain: one model, one look at the whole image", unique=True),
        _share("dice", "mean over classes"),
        Column("gain", "number", "of Dice over plain", least=-1, most=1, nullable=True),
        Column("gain_low", "number", "lower end of its interval", least=-1, most=1, nullable=True),
        Column("gain_high", "number", "upper end", least=-1, most=1, nullable=True),
        Column("seconds_per_image", "number", "on the machine of the run", least=0),
        Column("cost", "number", "the same as a multiple of plain", least=0),
        Column("used", "boolean", "the settings of `prediction` ask for it"),
    ),
    closed=True,
)

TABLES = (
    ANNOTATIONS,
    ANNOTATED_IMAGES,
    LOCATED_IMAGES,
    MEASURED_IMAGES,
    SPLITS,
    MANIFEST,
    TRAIN_VAL_IMAGES,
    FINDINGS,
    CLASS_OVERLAPS,
    PREDICTIONS,
    IMAGE_SCORES,
    GROUP_SCORES,
    SERIES_SCORES,
    THRESHOLD_CURVE,
    RELIABILITY,
    PREDICTION_OPTIONS,
)
