"""Several data sets as one manifest: shared or mapped classes, and classes that only some of them annotate."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images import fingerprints
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.findings import collect, quarantine
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, OBJECT_MAP, OF_CLASSES, class_names, read_masks
from seg_pipeline.segmentation.objects.label_maps import decode_labels, encode_labels, join_masks

QUALIFIED = ("image_id", "group", "series")
"""Columns whose values get the name of their source, so that two data sets may each have a patient 1."""


def combine_manifests(
    manifests: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    renamed: Mapping[str, Mapping[str, str | None]],
    *,
    objects: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One manifest of the images of several data sets, which keep their groups, splits and folds; and findings.

    Args:
        manifests: manifest of each source.
        classes: classes of the result, in channel order.
        renamed: per source, the name in ``classes`` of each of its classes that is called otherwise there, or None if
            the class is not wanted; several of its classes may become one.
        objects: keep the objects of each class, which every source must have.

    Returns:
        The rows of all sources, one source after another, with a column ``source``, "source/inner source" if a source
        is a combined manifest itself. A class that a source does not have is ``NOT_ANNOTATED`` in its rows: neither
        present nor absent, ignored in training and scores. So is a class made of several if one of them is; if the
        others have pixels, that is a finding.

    Raises:
        ValueError: there is no source, a class of a source is neither in ``classes`` nor in ``renamed``, ``renamed``
            names a class or a source that does not exist, no source has a class of ``classes``, or a source has no
            objects although ``objects`` is set.
    """
    if not manifests:
        raise ValueError(
            "there is no data set to combine; name the manifests in the catalog's `source_manifests.sources` "
            "(docs/how-to/combine.md)"
        )
    if foreign := sorted(set(renamed) - set(manifests)):
        raise ValueError(
            f"`combine.classes` names {', '.join(foreign)}, but the sources are {', '.join(manifests)} (the catalog's "
            "`source_manifests.sources`)"
        )
    targets = {
        source: _targets(source, class_names(rows), classes, renamed.get(source, {}))
        for source, rows in manifests.items()
    }
    if missing := [name for name in classes if not any(name in found.values() for found in targets.values())]:
        raise ValueError(f"no source annotates {', '.join(missing)}; take it out of `dataset.classes`, or rename to it")
    kinds = (*OF_CLASSES, OBJECT_MAP) if objects else OF_CLASSES
    without = [name for name, rows in manifests.items() if f"{OBJECT_MAP}{class_names(rows)[0]}" not in rows]
    if objects and without:
        raise ValueError(
            f"`dataset.objects` is true, but {', '.join(without)} has no objects; set it in that environment too, and "
            "run its data_processing again"
        )
    parts = [_mapped(source, rows, classes, targets[source], kinds) for source, rows in manifests.items()]
    shared = set.intersection(*(set(part) for part in parts))
    lost = [_lost(source, rows, targets[source]) for source, rows in manifests.items()]
    joined = pd.concat([part[[name for name in part if name in shared]] for part in parts], ignore_index=True)
    return joined, collect(*lost)


def _lost(source: str, rows: pd.DataFrame, targets: Mapping[str, str]) -> pd.DataFrame:
    """Findings about images with pixels of a class of which they annotate only a part."""
    found = []
    for name in dict.fromkeys(targets.values()):
        parts = [one for one, to in targets.items() if to == name]
        shown = _partly(rows, parts) & (rows[[f"area_{one}" for one in parts]] > 0).any(axis=1)
        reason = f"{name} is taken as not annotated, as only a part of {', '.join(parts)} is annotated here"
        ids = pd.DataFrame({"image_id": source + "/" + rows["image_id"].astype(str)})
        found.append(quarantine(ids, shown, "partly_annotated_class", reason, "flagged")[1])
    return collect(*found)


def _targets(
    source: str, own: Sequence[str], classes: Sequence[str], renamed: Mapping[str, str | None]
) -> dict[str, str]:
    """The class of the result that each of the source's classes becomes, without those that are not wanted."""
    if foreign := [name for name in renamed if name not in own]:
        raise ValueError(f"{source} has no class {', '.join(foreign)}; it has {', '.join(own)}")
    targets = {name: renamed.get(name, name) for name in own}
    if unknown := [f"{name} (would be {to})" if name != to else name for name, to in targets.items()
                   if to is not None and to not in classes]:  # fmt: skip
        raise ValueError(
            f"{source}: no class of the combined data set for {', '.join(unknown)}; `dataset.classes` are "
            f"{', '.join(classes)}. Rename it, or leave it out with null: `combine.classes.{source}: "
            f"{{{unknown[0].split()[0]}: null}}`"
        )
    return {name: to for name, to in targets.items() if to is not None}


def _mapped(
    source: str, rows: pd.DataFrame, classes: Sequence[str], targets: Mapping[str, str], kinds: Sequence[str]
) -> pd.DataFrame:
    own = class_names(rows)
    table = rows.drop(columns=[f"{kind}{name}" for kind in OF_CLASSES for name in own])
    table = table[[name for name in map(str, table) if not name.startswith(OBJECT_MAP)]].copy()
    for column in QUALIFIED:
        table[column] = source + "/" + table[column].astype(str)
    parts = {name: [one for one in own if targets.get(one) == name] for name in classes}
    order = {own.index(one): list(classes).index(to) for one, to in targets.items()}
    table["overlaps"] = [_reordered(text, order) for text in rows["overlaps"]]
    columns = {name: _class_columns(rows, sources, kinds) for name, sources in parts.items()}
    of_classes = {f"{kind}{name}": columns[name][kind] for kind in kinds for name in classes}
    named = source + "/" + table["source"] if "source" in table else pd.Series(source, index=rows.index)
    return pd.concat(
        [table.drop(columns="source", errors="ignore"), pd.DataFrame(of_classes), named.rename("source")], axis=1
    )


def _class_columns(rows: pd.DataFrame, sources: Sequence[str], kinds: Sequence[str]) -> pd.DataFrame:
    """Columns ``kinds`` of the union of some classes of the same rows."""
    if not sources:
        return _not_annotated(rows)
    if len(sources) == 1:
        return pd.DataFrame({kind: rows[f"{kind}{sources[0]}"] for kind in kinds})
    masks = [(read_masks({**row, "ignore": ""}, list(sources)) == 1).any(axis=0) for row in rows.to_dict("records")]
    area = pd.Series([int(mask.sum()) for mask in masks], index=rows.index, dtype="int64")
    union = pd.DataFrame(
        {
            "mask_": [encode_rle(mask, order="C") for mask in masks],
            "area_": area,
            "share_": area / (rows["height"] * rows["width"]),
            "objects_": rows[[f"objects_{name}" for name in sources]].sum(axis=1),
            OBJECT_MAP: [
                _joined_objects(row, sources) if OBJECT_MAP in kinds else "" for row in rows.to_dict("records")
            ],
        }
    )
    # the rest of a union of which only a part is annotated is unknown, and one mask cannot hold both
    return union.where(~_partly(rows, sources), _not_annotated(rows))


def _joined_objects(row: Mapping[Any, Any], sources: Sequence[str]) -> str:
    """Objects of several classes as those of one; where they overlap, the smaller one is on top."""
    shape = int(row["height"]), int(row["width"])
    maps = [decode_labels(row[f"{OBJECT_MAP}{name}"], shape) for name in sources]
    return encode_labels(join_masks([one == number for one in maps for number in np.unique(one[one > 0])], shape))


def _partly(rows: pd.DataFrame, sources: Sequence[str]) -> pd.Series:
    """Whether a row lacks the annotation of at least one of these classes."""
    return (rows[[f"mask_{name}" for name in sources]] == NOT_ANNOTATED).any(axis=1)


def _not_annotated(rows: pd.DataFrame) -> pd.DataFrame:
    nothing = dict(zip((*OF_CLASSES, OBJECT_MAP), (NOT_ANNOTATED, 0, 0.0, 0, ""), strict=True))
    return pd.DataFrame(nothing, index=rows.index)


def _reordered(text: str, order: Mapping[int, int]) -> str:
    """``overlaps`` of the manifest with the numbers of the new classes; pairs that became one class are gone."""
    kept: Counter[tuple[int, int]] = Counter()
    for pair, pixels in fingerprints.parse_overlaps(text).items():
        first, *rest = sorted({order[number] for number in pair if number in order}) or [0]
        if rest:
            kept[first, rest[0]] += pixels
    return fingerprints.format_overlaps(kept)
