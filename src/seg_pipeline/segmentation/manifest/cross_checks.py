"""Checks that compare images with each other: copies, outliers, mask jumps, a wrong order of run lengths."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images import fingerprints
from seg_pipeline.segmentation.images.decoding import read_image, read_orientation
from seg_pipeline.segmentation.images.masks import IGNORE, Order, decode_rle
from seg_pipeline.segmentation.manifest.findings import (
    Finding,
    collect,
    duplicated_text,
    findings_table,
    is_among,
    places_in,
)
from seg_pipeline.segmentation.manifest.table import class_names, iter_records, read_masks

BANDS = 8
"""Equal parts of a thumbnail. Two thumbnails that differ in fewer bits than there are bands have an equal band
(pigeonhole principle), so that only images in one bucket need to be compared."""
EXAMPLES = 3
"""Similar images that the finding of two groups names."""
FEW_TWINS = 8
"""Earlier images of other groups in the same bucket that an image is compared with."""
MIN_DETAIL = 32
"""Thumbnails with fewer set bits are of nearly uniform images, which resemble many others."""
OUTLIER = 6.0
"""Robust standard deviations of log intensity from the median."""
WINDOW = 5
"""Frames, including the image itself, whose median brightness it is compared with."""
MIN_SPREAD = 0.05
"""Keeps a third more brightness from being an outlier in a very even series."""
JUMP = 4.0
"""Factor by which the area of a class must differ from that of both neighbours, which agree with each other."""
STEADY = 0.5
"""IoU of the neighbours' masks from which the class is expected in between."""
MOSTLY = 0.5
"""Share of image and border from which masks are suspected to be inverted, as in the search's sanity checks."""
MIN_PIXELS = 50
SAMPLED_MASKS = 200
MIN_MASKS = 8
SHATTERED = 2.0
"""Factor between the number of objects in the declared order and in the other one."""
BETTER_EDGES = 0.75
"""Share of masks whose outline lies on stronger image edges in the other order."""


def check_images(manifest: pd.DataFrame, annotations: pd.DataFrame, *, rle_order: Order | None) -> pd.DataFrame:
    """Run all checks; every finding is flagged.

    Args:
        manifest: measured images, without or with splits.
        annotations: the rows image_id, class, mask that the manifest was made of.
        rle_order: as declared; None if masks are not run lengths.
    """
    return collect(
        check_copies(manifest),
        check_pixel_kinds(manifest),
        check_intensities(manifest),
        check_jumps(manifest),
        check_inverted(manifest),
        check_unstated(manifest, annotations) if rle_order else findings_table([]),
        check_order(manifest, rle_order) if rle_order else findings_table([]),
    )


def _about(row: Mapping, rule: str, reason: str) -> Finding:
    return Finding(rule, reason, "flagged", row["image_id"], row["file"])


# -- copies -------------------------------------------------------------------------------------------------


def check_copies(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images with equal pixels anywhere, and similar images in different groups (neighbours in a group are similar).

    Similar images get one finding per pair of groups: two scans of one patient may have thousands of them.
    """
    columns = ["image_id", "file", "group", "content_hash", "thumbnail"]  # not the masks, which are most of a table
    seen = manifest.loc[manifest["intensity_min"] < manifest["intensity_max"], columns]
    copied = duplicated_text(seen["content_hash"])
    return findings_table([*_equal(seen[~copied], seen[copied]), *_similar(seen[~copied])])


def _equal(first: pd.DataFrame, copies: pd.DataFrame) -> Iterator[Finding]:
    twins = first.iloc[places_in(copies["content_hash"], first["content_hash"])]
    for row, twin in zip(iter_records(copies), iter_records(twins), strict=True):
        where = "the same group" if twin["group"] == row["group"] else f"another group ({twin['group']})"
        yield _about(row, "equal_images", f"its pixels are those of {twin['image_id']} in {where}")


def _similar(images: pd.DataFrame) -> Iterator[Finding]:
    """Pairs of groups with images whose thumbnails differ in fewer than ``BANDS`` bits; a later image counts once."""
    bits = fingerprints.thumbnail_bits(images["thumbnail"])
    detailed = np.flatnonzero(np.bitwise_count(bits).sum(axis=1) >= MIN_DETAIL)
    ones, others, apart = _near_pairs(bits, detailed, pd.factorize(images["group"])[0])
    order = np.lexsort((ones, apart, others))
    nearest = order[np.unique(others[order], return_index=True)[1]]
    sides = (iter_records(images.iloc[rows[nearest]]) for rows in (ones, others))
    number: Counter[tuple[str, ...]] = Counter()
    shown: dict[tuple[str, ...], list[tuple[dict, dict, int]]] = defaultdict(list)
    for one, other, differ in zip(*sides, apart[nearest].tolist(), strict=True):
        groups = tuple(sorted((one["group"], other["group"])))
        number[groups] += 1
        if len(shown[groups]) < EXAMPLES:
            shown[groups].append((one, other, differ))
    for groups, ((one, other, differ), *examples) in shown.items():
        reason = f"looks like {one['image_id']} of group {one['group']}: {differ} bits of their thumbnails differ"
        if more := number[groups] - 1:
            named = " and ".join(f"{copy['image_id']} (like {first['image_id']})" for first, copy, _ in examples)
            reason += f"; the same holds for {more} more image{'s' * (more > 1)} of the two groups, such as {named}"
        yield _about(other, "similar_images", reason)


def _near_pairs(bits: np.ndarray, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Pairs of rows from different groups with an equal band and fewer than ``BANDS`` differing bits.

    Of shape (3, pairs): the earlier row, the later one, the differing bits. A row is compared with the first
    ``FEW_TWINS`` earlier ones of other groups in its bucket, which are enough to find that it has a copy.
    """
    found = [np.zeros((3, 0), dtype=np.intp)]
    for part in np.split(np.arange(bits.shape[1]), BANDS):
        _, bucket = np.unique(bits[np.ix_(rows, part)].view(f"S{len(part)}").ravel(), return_inverse=True)
        several = np.bincount(bucket)[bucket] > 1  # most images are alone in theirs
        few, bucket = rows[several], np.unique(bucket[several], return_inverse=True)[1]
        first = _first_of_buckets(bucket, groups[few])
        compared = np.zeros(len(few), dtype=np.intp)
        for places in first.T:
            place = places[bucket]
            near = (place >= 0) & (place < np.arange(len(few))) & (compared < FEW_TWINS)
            near &= groups[few[place]] != groups[few]
            compared += near
            ones, others = few[place[near]], few[near]
            apart = np.bitwise_count(bits[ones] ^ bits[others]).sum(axis=1, dtype=np.intp)
            found.append(np.stack([ones, others, apart])[:, apart < BANDS])
    return np.concatenate(found, axis=1)


def _first_of_buckets(bucket: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Places of the first members of each bucket, (buckets, 2 * ``FEW_TWINS``), -1 where there are fewer.

    Of each group only its first ``FEW_TWINS`` members count, so these hold the first ones outside any one group.
    """
    place = pd.DataFrame({"bucket": bucket, "group": group})
    heads = place[place.groupby(["bucket", "group"]).cumcount() < FEW_TWINS]
    rank = heads.groupby("bucket").cumcount().to_numpy()
    heads, rank = heads[rank < 2 * FEW_TWINS], rank[rank < 2 * FEW_TWINS]
    first = np.full((bucket.max(initial=-1) + 1, 2 * FEW_TWINS), -1)
    first[heads["bucket"], rank] = heads.index
    return first


# -- pixels -------------------------------------------------------------------------------------------------


def check_pixel_kinds(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images whose dtype or number of channels differs from most."""
    kinds = manifest["dtype"] + " x " + manifest["channels"].astype("str")
    usual = kinds.mode()[0]
    odd = manifest[["image_id", "file"]].assign(kind=kinds)[kinds != usual]
    return findings_table(
        _about(row, "pixel_kind_differs", f"pixels are {row['kind']} (dtype x channels), those of most images {usual}")
        for row in iter_records(odd)
    )


def check_intensities(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images far darker or brighter than the frames around them or, in short series, than all others."""
    columns = ["image_id", "file", "series", "frame", "dtype", "intensity_mean"]
    images = manifest.loc[manifest["intensity_min"] < manifest["intensity_max"], columns]
    images = images.sort_values(["series", "frame"])
    level = np.log1p(images["intensity_mean"])
    around = level.groupby(images["series"]).transform(lambda part: part.rolling(WINDOW, 1, center=True).median())
    long = images.groupby("series")["series"].transform("size") >= WINDOW
    usual = around.where(long, level.groupby(images["dtype"]).transform("median"))
    # 1.4826 scales the median deviation to a normal distribution's standard deviation.
    spread = 1.4826 * (level - usual).abs().median()
    far = (level - usual).abs() > OUTLIER * max(spread, MIN_SPREAD)
    return findings_table(
        _about(
            row,
            "intensity_outlier",
            f"mean intensity is {row['intensity_mean']:.1f}, that of the images around it {row['usual']:.1f}",
        )
        for row in iter_records(images.assign(usual=np.expm1(usual))[far])
    )


# -- masks --------------------------------------------------------------------------------------------------


def check_jumps(manifest: pd.DataFrame) -> pd.DataFrame:
    """Frames in which a class appears, disappears or changes size for one frame, between neighbours that agree."""
    names = class_names(manifest)
    columns = ["series", "frame", *(f"area_{name}" for name in names)]
    ordered = manifest[columns].reset_index(drop=True).sort_values(["series", "frame"])
    places = ordered.index.to_numpy()
    ordered = ordered.reset_index(drop=True)
    frame, series = ordered["frame"], ordered["series"]
    even = (
        (frame - frame.shift(1) == frame.shift(-1) - frame) & (series == series.shift(1)) & (series == series.shift(-1))
    )
    found = []
    for name in names:
        area = ordered[f"area_{name}"]
        low, high = (np.minimum(area.shift(1), area.shift(-1)), np.maximum(area.shift(1), area.shift(-1)))
        agree = (high >= MIN_PIXELS) & (high <= JUMP / 2 * low)
        jumps = np.flatnonzero(even & agree & ((area < low / JUMP) | (area > high * JUMP)))
        needed = manifest[["image_id", "file", "height", "width", f"area_{name}", f"mask_{name}"]]
        sides = (iter_records(needed.iloc[places[jumps + step]]) for step in (-1, 0, 1))
        for before, row, after in zip(*sides, strict=True):
            if _agree(before, after, name):
                found.append(_about(row, "mask_jumps", _jump(name, before, row, after)))
    return findings_table(found)


def _agree(before: Mapping, after: Mapping, name: str) -> bool:
    shape = (before["height"], before["width"])
    if shape != (after["height"], after["width"]):
        return False
    one, other = (decode_rle(side[f"mask_{name}"], shape, order="C") for side in (before, after))
    return bool((one & other).sum() >= STEADY * (one | other).sum())


def _jump(name: str, *rows: Mapping) -> str:
    before, here, after = (row[f"area_{name}"] for row in rows)
    return f"{name} has {here} pixels, in the frames before and after {before} and {after}"


def overlap_matrix(manifest: pd.DataFrame) -> pd.DataFrame:
    """How often, and in how many pixels, each pair of classes overlaps; ``share`` is of the smaller one's area."""
    names = class_names(manifest)
    areas = [int(manifest[f"area_{name}"].sum()) for name in names]
    pixels = np.zeros((len(names), len(names)), dtype=np.int64)
    images = np.zeros_like(pixels)
    for text in manifest.loc[manifest["overlaps"] != "", "overlaps"]:
        for pair, shared in fingerprints.parse_overlaps(text).items():
            pixels[pair] += shared
            images[pair] += 1
    return pd.DataFrame(
        [
            {
                "class": names[a],
                "other": names[b],
                "images": int(images[a, b]),
                "pixels": int(pixels[a, b]),
                "share": min(1.0, float(pixels[a, b] / max(1, min(areas[a], areas[b])))),
            }
            for a, b in itertools.combinations(range(len(names)), 2)
        ],
        columns=["class", "other", "images", "pixels", "share"],
    ).astype({"class": "str", "other": "str", "images": "int64", "pixels": "int64", "share": "float64"})


def check_unstated(manifest: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Images without a row for a class, in a table that states empty masks elsewhere: not annotated, or empty?"""
    names = set(class_names(manifest))
    class_, values = pd.factorize(annotations["class"])
    of_class = np.array([value in names for value in values], dtype=bool)[class_]  # ``NO_CLASS`` covers all classes
    if not (of_class & (annotations["mask"] == "")).any():
        return findings_table([])  # in this table, no row means no mask
    (image, ids), (class_, _) = (pd.factorize(annotations.loc[of_class, name]) for name in ("image_id", "class"))
    pairs = np.unique(image * len(names) + class_)
    number = np.append(np.bincount(pairs // len(names), minlength=len(ids)), len(names))  # last: of other images
    place = places_in(manifest["image_id"], pd.Series(ids))
    short = manifest.loc[number[place] < len(names), ["image_id", "file"]]
    if short.empty:
        return findings_table([])
    stated = annotations.loc[of_class & is_among(annotations["image_id"], short["image_id"]), ["image_id", "class"]]
    stated = stated.astype("str")
    classes_of = stated.groupby("image_id")["class"].agg(set).to_dict()
    found = []
    for image_id, file in short.itertuples(index=False):
        absent = sorted(names - classes_of[image_id])
        reason = f"the table has no row for {', '.join(absent)}, not even an empty one; the mask is taken as empty"
        found.append(Finding("class_not_annotated", reason, "flagged", image_id, file))
    return findings_table(found)


# -- inverted masks ----------------------------------------------------------------------------------------


def check_inverted(manifest: pd.DataFrame) -> pd.DataFrame:
    """A finding if the only class covers most of the images and of their border, as inverted masks do.

    The border tells them from large objects, few of which fill it. With several classes, one may be the surroundings.
    """
    name, *others = class_names(manifest)
    shown = manifest[manifest[f"area_{name}"] > 0]
    if others or len(shown) < MIN_MASKS:
        return findings_table([])
    covered = float(shown[f"share_{name}"].mean())
    rows = shown.sample(min(len(shown), SAMPLED_MASKS), random_state=0).to_dict("records")
    border = float(np.mean([_border_share(read_masks(row, [name])[0]) for row in rows]))
    if min(covered, border) <= MOSTLY:
        return findings_table([])
    reason = f"{name} covers {covered:.0%} of the images that show it and {border:.0%} of their border"
    return findings_table([Finding("inverted_masks_suspected", reason, "flagged")])


def _border_share(mask: np.ndarray) -> float:
    """Share of the labelled border pixels that belong to a mask, uint8 (H, W); 0 if no border pixel is labelled."""
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float((border == 1).sum() / max(1, (border != IGNORE).sum()))


# -- order of run lengths -----------------------------------------------------------------------------------


def check_order(manifest: pd.DataFrame, order: Order) -> pd.DataFrame:
    """A finding if the run lengths fit the other order better than the declared one.

    In the wrong order, the masks of an image that is not square fall into many objects. In a square image they are only
    mirrored at the diagonal and stay whole, but their outlines no longer follow the edges of the image.
    """
    square = manifest["height"] == manifest["width"]
    shapes = _drawn(manifest, ~square, order)
    objects = [(fingerprints.count_objects(mask), fingerprints.count_objects(other)) for _, mask, other in shapes]
    reasons = _object_reasons(objects)
    if len(objects) < MIN_MASKS:
        reasons = _edge_reasons([_edge_gain(*drawn) for drawn in _drawn(manifest, square, order)])
    turned = sum(read_orientation(path) > 1 for path in manifest["path"].sample(min(len(manifest), 50), random_state=0))
    return findings_table(_order_finding(reason, order, turned=bool(turned)) for reason in reasons)


def _drawn(images: pd.DataFrame, among: pd.Series, order: Order) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Path, mask, and mask in the other order of a sample of the images selected by ``among``, for each class."""
    names = class_names(images)
    for name in names:
        shown = pd.Series(np.flatnonzero(among & (images[f"area_{name}"] >= MIN_PIXELS)))
        number = min(len(shown), SAMPLED_MASKS // len(names) + 1)
        for _, row in images.iloc[shown.sample(number, random_state=0)].iterrows():
            mask = decode_rle(row[f"mask_{name}"], (row["height"], row["width"]), order="C")
            yield row["path"], mask, mask.ravel(order=order).reshape(mask.shape, order="F" if order == "C" else "C")


def _edge_gain(path: str, mask: np.ndarray, other: np.ndarray) -> float:
    """Mean edge strength of the image along the outline of ``other`` minus that along the outline of ``mask``."""
    image = read_image(path)
    grey = image.astype(np.float32) if image.ndim == 2 else image.mean(axis=2, dtype=np.float32)
    down, across = np.gradient(grey)
    strength = np.hypot(down, across)
    one, two = (strength[_outline(shape)].mean() for shape in (mask, other))
    return float(two - one)


def _outline(mask: np.ndarray) -> np.ndarray:
    inner = mask.copy()
    for shift, axis in itertools.product((1, -1), (0, 1)):
        inner &= np.roll(mask, shift, axis)
    return mask & ~inner


def _object_reasons(objects: list[tuple[int, int]]) -> list[str]:
    declared, other = (sum(pair[side] for pair in objects) for side in (0, 1))
    if len(objects) < MIN_MASKS or declared <= SHATTERED * other:
        return []
    return [f"{len(objects)} masks fall into {declared} objects, in the other order into {other}"]


def _edge_reasons(gains: list[float]) -> list[str]:
    better = sum(gain > 0 for gain in gains)
    if len(gains) < MIN_MASKS or better < BETTER_EDGES * len(gains):
        return []
    return [f"of {len(gains)} masks {better} follow the images' edges better in the other order"]


def _order_finding(reason: str, order: Order, *, turned: bool) -> Finding:
    other = "; images have an EXIF orientation, which explains this too: try `dataset.reading.orientation` first"
    reason = f"{reason}; `rle_order` is declared as {order}" + other * turned
    return Finding("rle_order_suspected", reason, "flagged")
