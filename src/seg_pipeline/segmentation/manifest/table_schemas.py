"""Schemas of the tables that pass between steps, checked whenever a table is saved or loaded.

`python docs/generate.py` writes docs/reference/tables.md from them.
"""

from seg_pipeline.segmentation.manifest.column_types import CLASS, Column, Table

_ID = Column("image_id", "text", "name of the image", unique=True)
_FILES = (
    Column("file", "text", "file, relative to the raw folder"),
    Column("path", "text", "file, absolute"),
)
_PLACE = (
    Column("group", "text", "unit that must not be split, such as a patient or a drive"),
    Column("series", "text", "ordered run of images"),
    Column("frame", "integer", "position in the series"),
    Column(
        "spacing_y",
        "number",
        "mm per pixel along y, if the file name, the volume, or a TIFF's OME or ImageJ metadata give it",
        least=0,
        nullable=True,
        required=False,
    ),
    Column("spacing_x", "number", "mm per pixel along x", least=0, nullable=True, required=False),
    Column("spacing_z", "number", "mm between frames", least=0, nullable=True, required=False),
)
_SPLIT = (
    Column("split", "text", "split of the image", one_of=("train", "val", "test")),
    Column("fold", "integer", "fold in which the image is validated, from 0; -1 in the test split", least=-1, most=127),
)

ANNOTATIONS = Table(
    "annotations",
    "Usable rows of the metadata table: one row per mask of an image and class.",
    (
        Column("row", "integer", "line of the metadata table as an editor counts; the header is line 1", least=1),
        Column("image_id", "text", "name of the image"),
        Column("class", "text", 'class name; "(none)" if the row states that its image shows no class'),
        Column("mask", "text", 'run lengths, or id of a mask file; "" if the table states that there is no mask'),
    ),
)

ANNOTATED_IMAGES = Table(
    "annotated_images",
    "Annotations with one row per image.",
    (
        _ID,
        Column("row", "integer", "its first line in the metadata table", least=1),
        Column(f"mask_{CLASS}", "list", "its masks; empty if there is none"),
    ),
)

LOCATED_IMAGES = Table(
    "located_images",
    "Annotated images that have a file. Other columns from the file name are kept as well.",
    (
        *(_ID, *_FILES, *_PLACE),
        Column("row", "integer", "its first line in the metadata table, if the table names it", least=1, nullable=True),
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
        Column("height", "integer", "of the stored image, pixels", least=1),
        Column("width", "integer", "of the stored image, pixels", least=1),
        Column("channels", "integer", "1 for grey, 3 for colour", least=1),
        Column("dtype", "text", "of the stored pixels", one_of=("uint8", "uint16")),
        Column("intensity_min", "integer", "of the stored pixels", least=0, most=65535),
        Column("intensity_max", "integer", "of the stored pixels", least=0, most=65535),
        Column("intensity_mean", "number", "of the stored pixels", least=0, most=65535),
        Column("content_hash", "text", "XXH3, 128 bits, of shape, dtype and decoded pixels"),
        Column(
            "thumbnail",
            "text",
            "difference hash, 256 bits in hex: which pixels of a tiny copy are brighter than their left neighbour",
        ),
        Column(
            "overlaps", "text", 'pixels shared by two classes: "i+j:pixels ...", where i and j count classes from 0'
        ),
        Column(f"mask_{CLASS}", "text", 'run lengths, row-major, starts from 1; "" if there is no mask'),
        Column("ignore", "text", "run lengths of the unlabelled pixels, which are ignored"),
        Column(f"area_{CLASS}", "integer", "pixels", least=0),
        Column(f"share_{CLASS}", "number", "area as a share of the image", least=0, most=1),
        Column(
            f"objects_{CLASS}",
            "integer",
            "connected components (8 neighbours), or masks if each is one object",
            least=0,
        ),
        Column(
            f"object_map_{CLASS}",
            "text",
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
    (*MEASURED_IMAGES.columns, *_SPLIT, Column("source", "text", "data set that the image is from", required=False)),
)

TRAIN_VAL_IMAGES = Table(
    "train_val_images",
    "The manifest without the held-out test split. Search, training and the choice of postprocessing see nothing else.",
    (
        *MEASURED_IMAGES.columns,
        Column("split", "text", "split of the image; test is not allowed", one_of=("train", "val")),
        Column("fold", "integer", "fold in which the image is validated, from 0", least=0, most=127),
    ),
)

FINDINGS = Table(
    "findings",
    "One row per problem with one input; docs/reference/findings.md explains the rules.",
    (
        Column("image_id", "text", "image with the problem", nullable=True),
        Column("file", "text", "file, relative to the folder that was searched", nullable=True),
        Column("row", "integer", "line of the metadata table; the header is line 1", least=1, nullable=True),
        Column("rule", "text", "name of the problem"),
        Column("reason", "text", "description of the problem with the values found"),
        Column("action", "text", "what was done about it", one_of=("dropped", "repaired", "flagged")),
    ),
    closed=True,
)

CLASS_OVERLAPS = Table(
    "class_overlaps",
    "Pixels shared by each pair of classes, over all images.",
    (
        Column("class", "text", "one class"),
        Column("other", "text", "another one"),
        Column("images", "integer", "images in which they overlap", least=0),
        Column("pixels", "integer", "shared pixels", least=0),
        Column("share", "number", "shared pixels as a share of the smaller class's area", least=0, most=1),
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
        Column(f"mask_{CLASS}", "text", "run lengths, as in the manifest"),
        Column(f"peak_{CLASS}", "number", "largest probability in the image", least=0, most=1),
        Column(
            f"mean_{CLASS}",
            "number",
            "mean probability inside the mask; missing if the mask is empty",
            0,
            1,
            nullable=True,
        ),
        Column(f"object_map_{CLASS}", "text", "objects, as in the manifest", required=False),
        Column("uncertainty", "number", "of the image, from 0", least=0, most=1, required=False),
        Column(
            "look_at_this",
            "boolean",
            "whether a person should look at the image; missing if no limit was chosen",
            nullable=True,
            required=False,
        ),
    ),
)

_CLASS = Column("class", "text", "its name")
_NUM_IMAGES = Column("num_images", "integer", "images whose ground truth shows the class", least=0)


def _share(name: str, meaning: str) -> Column:
    return Column(name, "number", meaning, least=0, most=1, nullable=True)


_HD95 = Column(
    "hd95", "number", "95 % Hausdorff distance, mm or pixels as `distance_unit` says", least=0, nullable=True
)

IMAGE_SCORES = Table(
    "image_scores",
    "Scores per image and class of the test split. They are missing if neither ground truth nor prediction shows the "
    "class; recall is missing if the ground truth does not. docs/reference/scores.md explains them.",
    (
        Column("image_id", "text", "name of the image"),
        _PLACE[0],
        _PLACE[1],
        _CLASS,
        *(_share(name, "") for name in ("dice", "iou", "precision", "recall")),
        _share("boundary_iou", "IoU of the strips along the borders"),
        _share("surface_dice", "share of the surfaces that lie within the tolerance of each other"),
        _HD95,
        Column(
            "cldice",
            "number",
            "clDice of the centrelines; only if `evaluation.measures.cldice` is true",
            0,
            1,
            nullable=True,
            required=False,
        ),
        Column("true_pos", "integer", "pixels", least=0),
        Column("false_pos", "integer", "pixels", least=0),
        Column("false_neg", "integer", "pixels", least=0),
        Column("truth_area", "integer", "pixels", least=0),
        Column("predicted_area", "integer", "pixels", least=0),
        Column("peak", "number", "largest probability in the image", least=0, most=1),
        *(
            Column(
                f"{kind}_objects", "integer", f"{meaning}; only if `dataset.objects` is true", least=0, required=False
            )
            for kind, meaning in (
                ("true", "objects in the ground truth"),
                ("predicted", "predicted objects"),
                ("matched", "pairs with an IoU above 0.5"),
            )
        ),
        *(
            Column(name, "number", f"{meaning}; only if `dataset.objects` is true", 0, 1, nullable=True, required=False)
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
        Column("num_missing", "integer", "missing frames of the volume", least=0, nullable=True),
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
        Column("threshold", "number", "probability", least=0, most=1),
        *(_share(name, "") for name in ("dice", "precision", "recall")),
    ),
    closed=True,
)

RELIABILITY = Table(
    "reliability",
    "Pixels of the test split by predicted probability, in equal bins.",
    (
        _CLASS,
        Column("bin", "integer", "from 0", least=0),
        _share("confidence", "mean probability of the bin's pixels"),
        _share("frequency", "share of the bin's pixels that belong to the class"),
        Column("pixels", "integer", "in the bin", least=0),
        Column("calibrated", "boolean", "whether the temperatures of `postprocessing` were applied"),
    ),
    closed=True,
)

PREDICTION_OPTIONS = Table(
    "prediction_options",
    "Gain and cost of each prediction option on the validation images, without postprocessing.",
    (
        Column("option", "text", "name of the option; plain: one model, one pass over the whole image", unique=True),
        _share("dice", "mean over classes"),
        Column("gain", "number", "of Dice over plain", least=-1, most=1, nullable=True),
        Column("gain_low", "number", "lower end of its interval", least=-1, most=1, nullable=True),
        Column("gain_high", "number", "upper end", least=-1, most=1, nullable=True),
        Column("seconds_per_image", "number", "seconds per image on the machine of the run", least=0),
        Column("cost", "number", "seconds per image as a multiple of plain", least=0),
        Column("used", "boolean", "whether the settings of `prediction` use the option"),
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
