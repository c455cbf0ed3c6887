"""Draws small data sets in every form that new-data reads, each with masks known to the pixel.

A data set is a form (how masks are given) and a mess (what is unusual about it). ``SPECIES`` maps "form/mess" to a
function that writes one into a folder and returns what should be read from it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from seg_pipeline.segmentation.images.masks import encode_rle

SHAPE = 16, 24
Kind = Callable[[Path, str, dict[str, np.ndarray]], dict[str, np.ndarray]]
NUMBER = 8


@dataclass
class Truth:
    """Bool masks (H, W) by class name of each image file; what the environment should say besides."""

    masks: dict[str, dict[str, np.ndarray]]
    answers: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] | None = None
    groups: int | None = None
    told: str = ""
    """Part of what is printed."""
    findings: int = 0
    """Number of findings."""


def scene(index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Colour image and masks of two shapes that do not touch; asymmetric, and different in each image."""
    vein, artery = np.zeros((2, *SHAPE), dtype=bool)
    vein[1 + index % 3 : 9, 2 : 9 + index % 4] = True
    artery[8 + index % 2 : 14, 14 : 20 + index % 3] = True
    grey = np.random.default_rng(index).normal(60, 4, SHAPE) + 70 * vein + 130 * artery
    image = np.stack([grey, grey + 5, grey + 10], axis=-1).clip(0, 255).astype(np.uint8)
    return image, {"vein": vein, "artery": artery}


def save(root: Path, file: str, values: np.ndarray, **options: object) -> str:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return file


def white(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255


def label_map(masks: dict[str, np.ndarray]) -> np.ndarray:
    return masks["vein"] + 2 * masks["artery"].astype(np.uint8)


def renamed(masks: dict[str, np.ndarray], names: tuple[str, str]) -> dict[str, np.ndarray]:
    return dict(zip(names, masks.values(), strict=True))


# -- how the files are called ----------------------------------------------------------------------------------

NAMES: dict[str, Callable[[int], str]] = {
    "plain": lambda i: f"img_{i:03d}",
    "patients": lambda i: f"p{i // 2}_{i % 2:02d}",
    "numbers": lambda i: f"{i:03d}",
    "bare numbers": lambda i: f"{i + 8}",
    "spaces": lambda i: f"scan {i} (copy)",
    "umlauts": lambda i: f"größe_影{i}",
    "dots": lambda i: f"a.b.{i}_x",
    "brackets": lambda i: f"im[{i}]{{x}}",
    "dollars": lambda i: f"a${{x}}_{i}",
    "signs": lambda i: f"a+b%20^{i}",
    "hex": lambda i: f"{(i + 3) * 104729:08x}",
    "mixed": lambda i: ["IMG_1", "IMG 2", "b-3", "x.y", "9", "-10", "it's", "c_7_a"][i],
    "one is the start of another": lambda i: f"a_{'1' * (i + 1)}",
}

# -- where images and masks are ----------------------------------------------------------------------------------

PLACES: dict[str, tuple[str, str]] = {
    "images masks": ("images/{n}.png", "masks/{n}.png"),
    "images labels": ("images/{n}.jpg", "labels/{n}.png"),
    "capitals": ("Images/{n}.PNG", "Masks/{n}.png"),
    "imgs annotations": ("imgs/{n}.bmp", "annotations/{n}.png"),
    "scans targets": ("scans/{n}.tif", "targets/{n}.tif"),
    "ground truth": ("photos/{n}.webp", "ground_truth/{n}.png"),
    "deep": ("data/raw/images/{n}.png", "data/raw/masks/{n}.png"),
    "train_masks gif": ("train/{n}.jpg", "train_masks/{n}_mask.gif"),
    "beside _mask": ("{n}.png", "{n}_mask.png"),
    "beside -mask": ("all/{n}.jpg", "all/{n}-mask.png"),
    "beside _gt": ("all/{n}.jpg", "all/{n}_gt.png"),
    "beside _GT": ("all/{n}.jpg", "all/{n}_GT.png"),
    "beside _label": ("{n}.jpg", "{n}_label.png"),
    "beside _seg": ("{n}.png", "{n}_seg.png"),
    "beside _segmentation": ("{n}.png", "{n}_segmentation.png"),
    "ending _mask in masks": ("images/{n}.png", "masks/{n}_mask.png"),
    "prefix mask_": ("images/{n}.png", "masks/mask_{n}.png"),
    "folder per image": ("{n}/images/{n}.png", "{n}/masks/{n}.png"),
    "image and mask": ("{n}/image.png", "{n}/mask.png"),
    "gt folder": ("{n}.png", "gt/{n}.png"),
    "ISIC": ("ISIC_Training_Input/{n}.jpg", "ISIC_Training_GroundTruth/{n}_segmentation.png"),
    "DRIVE": ("training/images/{n}_training.tif", "training/1st_manual/{n}_manual1.gif"),
    "whole name": ("images/{n}.jpg", "masks/{n}.jpg.png"),
}


def pictures(root: Path, place: str = "images masks", name: str = "plain", kind: str | Kind = "indexed") -> Truth:
    """Images and one mask each."""
    image_at, mask_at = PLACES[place]
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        called = NAMES[name](index)
        truth[save(root, image_at.format(n=called), image)] = KINDS.get(kind, kind)(
            root, mask_at.format(n=called), masks
        )
    return Truth(truth, groups=4 if name == "patients" else None)


# -- what the pixels of a mask mean ------------------------------------------------------------------------------


def indexed(root: Path, file: str, masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    save(root, file, label_map(masks))
    return renamed(masks, ("class_1", "class_2"))


def with_values(
    root: Path, file: str, masks: dict[str, np.ndarray], *, values: tuple[int, int], dtype: type = np.uint8
):
    save(root, file, (masks["vein"] * values[0] + masks["artery"] * values[1]).astype(dtype))
    return renamed(masks, (f"class_{values[0]}", f"class_{values[1]}"))


def binary(root: Path, file: str, masks: dict[str, np.ndarray], *, value: int = 255, **options: object):
    save(root, file, masks["vein"].astype(np.uint8) * np.uint8(value), **options)
    return {"foreground": masks["vein"]}


def rgb_binary(root: Path, file: str, masks: dict[str, np.ndarray]):
    save(root, file, np.repeat(white(masks["vein"])[..., None], 3, axis=2))
    return {"foreground": masks["vein"]}


def one_bit(root: Path, file: str, masks: dict[str, np.ndarray]):
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(white(masks["vein"])).convert("1").save(path)
    return {"foreground": masks["vein"]}


def palette(root: Path, file: str, masks: dict[str, np.ndarray]):
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label_map(masks)).convert("L")
    drawn = Image.frombytes("P", image.size, image.tobytes())
    drawn.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    drawn.save(path)
    return renamed(masks, ("class_1", "class_2"))


def colours(root: Path, file: str, masks: dict[str, np.ndarray], *, alpha: bool = False):
    drawn = np.zeros((*SHAPE, 4 if alpha else 3), dtype=np.uint8)
    drawn[..., 3:] = 255
    drawn[masks["vein"], :3], drawn[masks["artery"], :3] = (250, 50, 83), (51, 221, 255)
    save(root, file, drawn)
    return renamed(masks, ("colour_fa3253", "colour_33ddff"))


def void(root: Path, file: str, masks: dict[str, np.ndarray]):
    values = label_map(masks)
    values[:, -1] = 255
    save(root, file, values)
    return renamed(masks, ("class_1", "class_2"))


def below_zero(root: Path, file: str, masks: dict[str, np.ndarray]):
    values = label_map(masks).astype(np.int16)
    values[:, -1] = -1
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(root / file, values)
    return renamed(masks, ("class_1", "class_2"))


def of_tifffile(root: Path, file: str, masks: dict[str, np.ndarray]):
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(root / file, masks["vein"])  # bool
    return {"foreground": masks["vein"]}


def any_palette(root: Path, file: str, masks: dict[str, np.ndarray], *, grey: bool):
    """Palettes that list black and the other colours in the order in which each mask shows them."""
    values = label_map(masks)
    colours = [[0, 0, 0], [90, 90, 90], [200, 200, 200]] if grey else [[0, 0, 0], [200, 10, 10], [10, 200, 10]]
    order = np.roll([0, 1, 2], int(masks["vein"].sum()))
    drawn = Image.frombytes("P", values.shape[::-1], np.argsort(order).astype(np.uint8)[values].tobytes())
    drawn.putpalette(np.array(colours, dtype=np.uint8)[order].tobytes())
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    drawn.save(root / file)
    return renamed(masks, ("class_90", "class_200") if grey else ("colour_c80a0a", "colour_0ac80a"))


KINDS: dict[str, Kind] = {
    "indexed": indexed,
    "0 and 255": binary,
    "0 and 1": partial(binary, value=1),
    "grey as colour": rgb_binary,
    "one bit": one_bit,
    "palette": palette,
    "colours": colours,
    "colours with alpha": partial(colours, alpha=True),
    "void 255": void,
    "values 80 and 160": partial(with_values, values=(80, 160)),
    "16 bit": partial(with_values, values=(1, 300), dtype=np.uint16),
    "palettes in any order": partial(any_palette, grey=False),
    "grey palettes in any order": partial(any_palette, grey=True),
}


def jpeg_masks(root: Path) -> Truth:
    """Black and white masks that JPEG changed; blocks of 8 x 8, so that the truth is known."""
    truth, mask = {}, np.zeros(SHAPE, dtype=bool)
    mask[4:16, 8:20] = True
    for index in range(NUMBER):
        image = scene(index)[0]
        file = save(root, f"images/{index}.png", image)
        save(root, f"masks/{index}.jpg", white(mask), quality=80)
        truth[file] = {"foreground": mask}
    return Truth(truth, told="JPEG compression has changed the masks", findings=NUMBER)


def smoothed(root: Path, ending: str, **options: object) -> Truth:
    """Black and white masks with grey edges, by anti-aliasing or lossy compression."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        edges = cv2.GaussianBlur(white(masks["vein"]), (3, 3), 0.8) if not options else white(masks["vein"])
        save(root, f"masks/{index}{ending}", np.repeat(edges[..., None], 3, axis=2), **options)
        truth[save(root, f"images/{index}.png", image)] = {"foreground": edges > 127}
    return Truth(truth, told="the masks look compressed or smoothed", findings=NUMBER)


def inverted(root: Path) -> Truth:
    """White background."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        save(root, f"masks/{index}.png", white(~masks["vein"]))
        truth[save(root, f"images/{index}.png", image)] = {"vein": masks["vein"]}
    return Truth(truth, {"classes": "0=vein"}, told="add --classes 0=NAME with the other classes")


def spelled(root: Path, image_at: str, mask_at: str) -> Truth:
    """Names of images and masks that differ in the form of Unicode, in outer blanks or in how they start."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        save(root, mask_at.format(i=index), white(masks["vein"]))
        truth[save(root, image_at.format(i=index), image)] = {"foreground": masks["vein"]}
    return Truth(truth)


# -- several folders or files of masks ---------------------------------------------------------------------------


def of_classes(root: Path, mask_at: str, image_at: str = "images/{n}.png", name: str = "plain") -> Truth:
    """A binary mask file per image and class."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        called = NAMES[name](index)
        for label, mask in masks.items():
            save(root, mask_at.format(n=called, c=label), white(mask))
        truth[save(root, image_at.format(n=called), image)] = masks
    return Truth(truth)


def of_objects(root: Path, mask_at: str, image_at: str = "images/{n}.png") -> Truth:
    """A binary mask file per object: both shapes are objects of one class; the last image has none."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        called = NAMES["plain"](index)
        objects = list(masks.values())[: 0 if index == NUMBER - 1 else 1 if index == 3 else 2]
        for number, mask in enumerate(objects):
            save(root, mask_at.format(n=called, i=number + 1, h=f"{index * 7919 + number * 31:x}ab"), white(mask))
        truth[save(root, image_at.format(n=called), image)] = {
            "object": np.any(objects, axis=0) if objects else np.zeros(SHAPE, dtype=bool)
        }
    return Truth(truth)


def numbered_objects(root: Path) -> Truth:
    """Label maps whose values number the objects, which touch each other."""
    truth = {}
    for index in range(NUMBER):
        image, _ = scene(index)
        values = np.zeros(SHAPE, dtype=np.uint16)
        for number in range(2 + index):
            values[2:12, 2 * number + 1 : 2 * number + 3] = number + 1
        file = save(root, f"images/{index}.png", image)
        save(root, f"masks/{index}.tif", values)
        truth[file] = {"foreground": values > 0}
    return Truth(truth, told="the values number the objects of each image")


def sites(root: Path, image_at: str, mask_at: str, *, number: int = 4) -> Truth:
    """The same file names in the folders of several sites."""
    truth = {}
    for index in range(NUMBER):
        site, called = f"site{'abcd'[index % number]}", f"{index // number:03d}"
        image, masks = scene(index)
        save(root, mask_at.format(s=site, n=called), label_map(masks))
        file = save(root, image_at.format(s=site, n=called), image)
        truth[file] = renamed(masks, ("class_1", "class_2"))
    return Truth(truth, groups=number)


def given_split(root: Path, image_at: str, mask_at: str, words: tuple[str, ...], *, repeated: bool = False) -> Truth:
    """Train, val and test in folders."""
    truth, splits = {}, {}
    for index in range(NUMBER):
        number = min(max(index - 3, 0), len(words) - 1)
        image, masks = scene(index)
        called = f"{list(splits.values()).count(('train', 'val', 'test')[number]) if repeated else index:03d}"
        file = save(root, image_at.format(s=words[number], n=called), image)
        save(root, mask_at.format(s=words[number], n=called), label_map(masks))
        truth[file] = renamed(masks, ("class_1", "class_2"))
        splits[file] = ("train", "val", "test")[number]
    return Truth(truth, splits=splits, told="splits: that of the folders")


def listed_split(root: Path) -> Truth:
    """As Pascal VOC: lists of names."""
    truth = pictures(root, "images masks", "hex")
    names = {file: Path(file).stem for file in truth.masks}
    lists = {"train": list(names.values())[:4], "val": list(names.values())[4:6], "test": list(names.values())[6:]}
    (root / "ImageSets").mkdir()
    for split, some in lists.items():
        (root / f"ImageSets/{split}.txt").write_text("\n".join(some) + "\n")
    truth.splits = {file: next(s for s, some in lists.items() if name in some) for file, name in names.items()}
    return truth


def tabled_split(root: Path) -> Truth:
    truth = pictures(root, "images masks", "hex")
    words = ["training"] * 4 + ["validation"] * 2 + ["test"] * 2
    pd.DataFrame({"file": list(truth.masks), "subset": words}).to_csv(root / "info.csv", index=False)
    short = {"training": "train", "validation": "val", "test": "test"}
    truth.splits = {file: short[word] for file, word in zip(truth.masks, words, strict=True)}
    return truth


# -- lists of classes --------------------------------------------------------------------------------------------

CLASS_LISTS = {
    "classes.csv": "class_id,class_name\n0,background\n1,vein\n2,artery\n",
    "labels.csv": "id;name\n1;vein\n2;artery\n",
    "classes.txt": "background\nvein\nartery\n",
    "labels.txt": "vein\nartery\n",
    "class_names.txt": "1: vein\n2: artery\n",
    "classes.json": '{"1": "vein", "2": "artery"}',
    "dataset.json": '{"labels": {"background": 0, "vein": 1, "artery": 2}}',
}
COLOUR_LISTS = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nvein:250,50,83::\nartery:51,221,255::\n",
    "colours.csv": "name,r,g,b\nvein,250,50,83\nartery,51,221,255\n",
    "label_colors.txt": "0 0 0 background\n250 50 83 vein\n51 221 255 artery\n",
}


def listed_classes(root: Path, file: str) -> Truth:
    lists = CLASS_LISTS | COLOUR_LISTS
    truth = pictures(root, kind="colours" if file in COLOUR_LISTS else "indexed")
    (root / file).write_text(lists[file], encoding="utf-8")
    truth.masks = {image: renamed(masks, ("vein", "artery")) for image, masks in truth.masks.items()}
    return truth


def many_classes(root: Path, *, listed: bool) -> Truth:
    """150 classes, most of them absent from most images."""
    truth = {}
    for index in range(30):
        image, _ = scene(index)
        values = np.zeros(SHAPE, dtype=np.uint8)
        for number in range(5):
            values[3 * number : 3 * number + 3, :20] = index * 5 + number + 1
        file = save(root, f"images/{index:03d}.png", image)
        save(root, f"masks/{index:03d}.png", values)
        names = [f"thing {one}" if listed else f"class_{one}" for one in range(1, 151)]
        truth[file] = {name: values == one for one, name in enumerate(names, start=1)}
    if listed:
        lines = "".join(f"{one},thing {one}\n" for one in range(1, 151))
        (root / "classes.csv").write_text("class_id,class_name\n" + lines)
    return Truth(truth)


# -- tables ------------------------------------------------------------------------------------------------------

IDS: dict[str, Callable[[str], str]] = {
    "stem": lambda file: Path(file).stem,
    "name": lambda file: Path(file).name,
    "path": lambda file: file,
    "path without ending": lambda file: file.rsplit(".", 1)[0],
    "windows": lambda file: "C:\\data\\" + file.replace("/", "\\"),
    "elsewhere": lambda file: f"/home/x/{file}",
    "zeros lost": lambda file: str(int(Path(file).stem)),
}


def write_table(root: Path, rows: pd.DataFrame, kind: str, file: str = "table") -> None:
    if kind in WRITERS:
        (root / f"{file}.csv").write_bytes(WRITERS[kind](rows))
    elif kind == "tsv":
        rows.to_csv(root / f"{file}.tsv", sep="\t", index=False)
    elif kind == "parquet":
        rows.to_parquet(root / f"{file}.parquet", index=False)
    elif kind == "xlsx":
        rows.to_excel(root / f"{file}.xlsx", index=False)
    else:
        lines = [json.dumps({key: None if pd.isna(one) else one for key, one in row.items()}) for row in
                 rows.to_dict("records")]  # fmt: skip
        (root / f"{file}.jsonl").write_text("\n".join(lines) + "\n")


def _csv(rows: pd.DataFrame, encoding: str = "utf-8", **options: object) -> bytes:
    return rows.to_csv(index=False, **options).encode(encoding)


WRITERS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "comma": _csv,
    "semicolon": partial(_csv, sep=";"),
    "tab": partial(_csv, sep="\t"),
    "bar": partial(_csv, sep="|"),
    "bom": partial(_csv, encoding="utf-8-sig"),
    "latin-1": partial(_csv, encoding="latin-1"),
    "utf-16": partial(_csv, encoding="utf-16"),
    "crlf": partial(_csv, lineterminator="\r\n"),
    "quoted": partial(_csv, quoting=1),
}


def relative(runs: str) -> str:
    numbers = [int(one) for one in runs.split()]
    ends = [0, *(start + length for start, length in zip(numbers[::2], numbers[1::2], strict=True))]
    pairs = zip(numbers[::2], numbers[1::2], ends, strict=False)
    return " ".join(f"{start - end} {length}" for start, length, end in pairs)


def table(
    root: Path,
    ids: str = "stem",
    kind: str = "comma",
    *,
    order: str = "C",
    first: int = 1,
    nothing: str | None = None,
    form: str = "class",
    labels: tuple[str, str] = ("vein", "artery"),
    columns: tuple[str, str, str] = ("image_id", "class", "rle"),
    name: str = "plain",
    names: tuple[str, str] | None = None,
) -> Truth:
    """Run lengths in a table. ``form``: class, joined, wide, none or relative; ``nothing``: how no mask is written."""
    image_column, class_column, mask_column = columns
    rows, truth = [], {}
    for index in range(NUMBER):
        image, masks = scene(index)
        if nothing is not None and index == 2:
            masks["artery"] = np.zeros(SHAPE, dtype=bool)
        file = save(root, f"train/{NAMES[name](index)}.png", image)
        key = IDS[ids](file)
        runs = {label: encode_rle(mask, order=order) for label, mask in zip(labels, masks.values(), strict=True)}
        if first == 0:
            runs = {label: " ".join(str(int(one) - (at % 2 == 0)) for at, one in enumerate(text.split()))
                    for label, text in runs.items()}  # fmt: skip
        runs = {
            label: (relative(text) if form == "relative" else text) or nothing or None for label, text in runs.items()
        }
        extra = {"width": SHAPE[1], "height": SHAPE[0], "data_source": "XY", "age": 30 + index}
        if form == "wide":
            rows.append({image_column: key, **extra, **runs})
        for label, text in runs.items() if form != "wide" else ():
            if form == "joined":
                rows.append({f"{image_column}_{class_column}": f"{key}_{label}", mask_column: text})
            elif form == "none":
                rows.append({image_column: key, mask_column: text})
            else:
                rows.append({image_column: key, mask_column: text, **extra, class_column: label})
        found = renamed(masks, names or labels)
        truth[file] = {"foreground": np.any(list(masks.values()), axis=0)} if form == "none" else found
    write_table(root, pd.DataFrame(rows), kind)
    return Truth(truth, {"rle_order": order, "rle_first": str(first)})


def typed_table(root: Path, kind: str) -> Truth:
    """Numbers as ids and classes, and an id that is missing, which makes others fractions."""
    truth = table(root, ids="zeros lost", name="numbers", labels=("1", "2"), names=("class_1", "class_2"))
    rows = pd.read_csv(root / "table.csv")
    (root / "table.csv").unlink()
    rows.loc[len(rows)] = [None, *rows.iloc[0, 1:]]
    write_table(root, rows, kind)
    truth.findings = 1
    return truth


def files_table(
    root: Path,
    ids: str = "path",
    mask_ids: str = "path",
    kind: str = "comma",
    form: str = "class",
    at: tuple[str, str] = ("images/{n}.png", "masks/{m}.png"),
    columns: tuple[str, str, str] = ("image_path", "mask_path", "class"),
    nothing: str | None = None,
) -> Truth:
    """Names of mask files in a table; the files' own names say nothing."""
    rows, truth, number = [], {}, 0
    for index in range(NUMBER):
        image, masks = scene(index)
        file = save(root, at[0].format(n=f"frame_{index:03d}"), image)
        row = {columns[0]: IDS[ids](file)}
        if form == "indexed":
            number += 7
            mask_file = save(root, at[1].format(m=f"{number:05d}"), label_map(masks))
            rows.append({**row, columns[1]: IDS[mask_ids](mask_file)})
            truth[file] = renamed(masks, ("class_1", "class_2"))
            continue
        for label, mask in masks.items():
            number += 7
            if nothing is not None and index == 2 and label == "artery":
                given, masks["artery"] = nothing, np.zeros(SHAPE, dtype=bool)
            else:
                given = IDS[mask_ids](save(root, at[1].format(m=f"{number:05d}"), white(mask)))
            row = {**row, f"{label}_mask": given} if form == "wide" else {columns[0]: row[columns[0]]}
            if form != "wide":
                rows.append({**row, columns[1]: given, columns[2]: label})
        if form == "wide":
            rows.append(row)
        truth[file] = masks
    write_table(root, pd.DataFrame(rows), kind)
    return Truth(truth)


def unnamed_images(root: Path, answer: str) -> Truth:
    """A table that names six of eight images."""
    truth = table(root)
    rows = pd.read_csv(root / "table.csv", dtype=str)
    absent = list(truth.masks)[-2:]
    rows[~rows["image_id"].isin([Path(one).stem for one in absent])].to_csv(root / "table.csv", index=False)
    truth.answers["images_without_row"] = answer
    for file in absent:
        truth.masks[file] = {label: np.zeros(SHAPE, dtype=bool) for label in ("vein", "artery")}
        if answer == "drop":
            del truth.masks[file]
    truth.findings = 2 if answer == "drop" else 0
    truth.told = f"2 of 8 images have no row: {'not annotated' if answer == 'drop' else 'they show no class'}"
    return truth


def subset(root: Path, write: Callable[[Path], Truth], name: str, findings: int) -> Truth:
    """Only one of the classes is wanted; images of the other one stay, and its rows and files are findings."""
    truth = write(root)
    truth.findings = findings
    truth.answers["classes"] = name
    truth.masks = {file: {name: masks[name]} for file, masks in truth.masks.items()}
    return truth


def mixed_kinds(root: Path) -> Truth:
    """Two grey images among colour ones."""
    truth = pictures(root)
    for file in list(truth.masks)[:2]:
        save(root, file, scene(0)[0][..., 0] + np.uint8(len(file)) + np.uint8(int(file[-5])))
    truth.told = "2 of 8 sampled images are of another kind, such as img_000.png (uint8, grey)"
    return truth


def one_clash(root: Path) -> Truth:
    """Two images of one name, and a mask that fits both: the others are read."""
    names = [f"{index:02d}" for index in range(12)]
    truth = {}
    for index, name in enumerate(names):
        image, masks = scene(index)
        file = save(root, f"images/{name}.png", image)
        save(root, f"masks/{name}.png", label_map(masks))
        truth[file] = renamed(masks, ("class_1", "class_2"))
    save(root, "images/07.bmp", scene(30)[0])
    del truth["images/07.png"]
    return Truth(truth, findings=3, told="1 name is of several images, such as images/07.bmp, images/07.png")


def precise_names(root: Path) -> Truth:
    """Two images of each name; the masks name their image with its extension."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        file = save(root, f"images/s{index // 2:02d}.{'png' if index % 2 else 'bmp'}", image)
        save(root, f"masks/{Path(file).name}.png", label_map(masks))
        truth[file] = renamed(masks, ("class_1", "class_2"))
    return Truth(truth)


def roboflow(root: Path) -> Truth:
    """Images and masks beside each other in three folders, each with a list of the classes."""
    truth, splits = {}, {}
    for index in range(NUMBER):
        split = ("train", "train", "train", "train", "valid", "valid", "test", "test")[index]
        image, masks = scene(index)
        file = save(root, f"{split}/street_{index}_jpg.rf.{index * 7919:x}.jpg", image)
        save(root, file.replace(".jpg", "_mask.png"), label_map(masks))
        (root / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, vein\n2, artery\n")
        truth[file], splits[file] = masks, split.replace("valid", "val")
    return Truth(truth, splits=splits)


def cityscapes(root: Path, kinds: tuple[str, ...] = ("labelIds", "labelTrainIds", "instanceIds", "color")) -> Truth:
    """Several masks of an image in one folder, which differ in the end of their names, and JSON of polygons."""
    truth, splits = {}, {}
    for index in range(NUMBER):
        image, masks = scene(index)
        split, city = ("train", "ulm") if index < 5 else ("val", "jena")
        name = f"{split}/{city}/{city}_00000{index // 2}_0000{index:02d}"
        file = save(root, f"leftImg8bit/{name}_leftImg8bit.png", image)
        values = {
            "labelIds": 7 * masks["vein"] + 26 * masks["artery"],
            "labelTrainIds": np.where(masks["vein"], 0, np.where(masks["artery"], 13, 255)),
            "instanceIds": 7 * masks["vein"] + (26000 + index) * masks["artery"],
        }
        for kind in kinds:
            if kind == "color":
                colours(root, f"gtFine/{name}_gtFine_color.png", masks, alpha=True)
            else:
                dtype = np.uint16 if kind == "instanceIds" else np.uint8
                save(root, f"gtFine/{name}_gtFine_{kind}.png", values[kind].astype(dtype))
        (root / f"gtFine/{name}_gtFine_polygons.json").write_text('{"imgHeight": 16, "imgWidth": 24, "objects": []}')
        names = ("class_7", "class_26") if "labelIds" in kinds else ("colour_fa3253", "colour_33ddff")
        truth[file], splits[file] = renamed(masks, names), split
    told = (
        "also found, but not used (choose with --layout): pictures-2 (images, and masks in files ending in _labelTrainI"
    )
    return Truth(truth, splits=splits, told=told if "labelIds" in kinds else "")


def busi(root: Path) -> Truth:
    """As the breast ultrasound data BUSI: some images have a second mask, and one file is empty."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        file = save(root, f"benign/benign ({index}).png", image)
        save(root, f"benign/benign ({index})_mask.png", white(masks["vein"]))
        if index == 2:
            save(root, f"benign/benign ({index})_mask_1.png", white(masks["artery"]))
        truth[file] = {"object": masks["vein"] | (masks["artery"] & (index == 2))}
    (root / "benign/benign (5)_mask.png").write_bytes(b"")
    del truth["benign/benign (5).png"]
    return Truth(truth, findings=1)


def empty_file(root: Path) -> Truth:
    """A mask file without a byte."""
    truth = pictures(root)
    (root / "masks/img_002.png").write_bytes(b"")
    del truth.masks["images/img_002.png"]
    truth.findings = 1
    return truth


def nameless(root: Path, image_at: str, mask_at: str) -> Truth:
    """Masks that only their pixels tell from images, as in GlaS, PH2, KITTI, Crack500 and ACDC, some in colours too."""
    truth = {}
    for index in range(NUMBER):
        image, masks = scene(index)
        save(root, mask_at.format(i=index), label_map(masks))
        if "semantic" in mask_at:
            colours(root, mask_at.format(i=index).replace("semantic", "semantic_rgb"), masks)
        truth[save(root, image_at.format(i=index), image)] = renamed(masks, ("class_1", "class_2"))
    return Truth(truth)


def camvid(root: Path) -> Truth:
    """Folders of masks that no glob tells from those of images, so that each mask is a finding of the images."""
    truth = given_split(root, "{s}/{n}.png", "{s}annot/{n}.png", ("train", "val", "test"))
    truth.findings = len(truth.masks)
    return truth


def masks_beside(root: Path, place: str) -> Truth:
    """A picture of each mask to look at, beside it."""
    truth = pictures(root, place)
    for index in range(NUMBER):
        colours(root, PLACES[place][1].format(n=f"{NAMES['plain'](index)}_vis"), scene(index)[1])
    truth.told = (
        "also found, but not used (choose with --layout): pictures-2 (images, and masks in files ending in _vis)"
    )
    return truth


def voc(root: Path) -> Truth:
    """Masks of some of the images, with void outlines, objects beside classes, and lists of names."""
    truth, splits, lists = {}, {}, {"train": [], "val": []}
    for index in range(NUMBER):
        image, masks = scene(index)
        name = f"2007_{index * 31:06d}"
        file = save(root, f"JPEGImages/{name}.jpg", image)
        if index == 5:
            continue
        values = label_map(masks)
        values[15] = 255
        for folder in ("SegmentationClass", "SegmentationObject"):
            save(root, f"{folder}/{name}.png", values)
        splits[file] = "val" if index > 4 else "train"
        lists[splits[file]].append(name)
        truth[file] = renamed(masks, ("class_1", "class_2"))
    for split, names in lists.items():
        path = root / f"ImageSets/Segmentation/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    return Truth(truth, splits=splits, findings=1)


def _spelled() -> dict[str, Callable[[Path], Truth]]:
    return {
        f"spelled/{image}": partial(spelled, image_at=image, mask_at=mask)
        for image, mask in (
            ("images/gro\u0308\u00dfe_{i}.png", "masks/gr\u00f6\u00dfe_{i}.png"),
            ("images/im_{i} .png", "masks/im_{i}.png"),
            ("images/ im_{i}.png", "masks/ im_{i}.png"),
            ("images/frame_{i}.png", "masks/label_{i}.png"),
            ("images/mask_study_{i}.png", "masks/mask_study_{i}.png"),
        )
    }


def _species() -> dict[str, Callable[[Path], Truth]]:
    found: dict[str, Callable[[Path], Truth]] = {}
    found |= {f"place/{one}": partial(pictures, place=one) for one in PLACES}
    found |= {f"binary place/{one}": partial(pictures, place=one, kind="0 and 255") for one in PLACES}
    found |= {f"name/{one}": partial(pictures, name=one) for one in NAMES}
    found |= {f"name beside/{one}": partial(pictures, place="beside _mask", name=one) for one in NAMES}
    found |= _spelled() | {f"pixels/{one}": partial(pictures, kind=one) for one in KINDS}
    found |= {f"pixels as tif/{one}": partial(pictures, place="scans targets", kind=one) for one in KINDS}
    found |= {f"class files/{at}": partial(of_classes, mask_at=at) for at in (
        "masks/{c}/{n}.png", "masks/{n}_{c}.png", "masks/{n}/{c}.png", "masks/{n}-{c}.png", "masks_{c}/{n}.png",
        "masks/{n}_{c}_mask.png", "masks/{c}_masks/{n}.png")}  # fmt: skip
    found |= {f"class files by name/{one}": partial(of_classes, mask_at="masks/{n}_{c}.png", name=one)
              for one in ("patients", "numbers", "spaces", "hex", "one is the start of another")}  # fmt: skip
    found |= {f"objects/{at}": partial(of_objects, mask_at=at) for at in (
        "masks/{n}_{i}.png", "masks/{n}/{i}.png", "masks/{n}/{h}.png", "masks/{n}_{h}.png")}  # fmt: skip
    found["objects/a folder per image"] = partial(
        of_objects, mask_at="{n}/masks/{h}.png", image_at="{n}/images/{n}.png"
    )
    found["objects/numbers in label maps"] = numbered_objects
    pairs = [("{s}/images/{n}.png", "{s}/masks/{n}.png"), ("images/{s}/{n}.png", "masks/{s}/{n}.png"),
             ("{s}/{n}.png", "{s}_masks/{n}.png"), ("{s}/{n}.png", "{s}/{n}_mask.png"),
             ("{s}_images/{n}.png", "{s}_labels/{n}.png")]  # fmt: skip
    found |= {f"sites/{image} {mask}": partial(sites, image_at=image, mask_at=mask) for image, mask in pairs}
    found["sites/two"] = partial(sites, image_at=pairs[0][0], mask_at=pairs[0][1], number=2)
    for words in (("train", "val", "test"), ("training", "validation", "testing"), ("train", "val")):
        found |= {
            f"split/{words[-1]} {at} {repeated}": partial(
                given_split, image_at=at, mask_at=mask, words=words, repeated=repeated
            )
            for at, mask in (
                ("images/{s}/{n}.png", "masks/{s}/{n}.png"),
                ("{s}/images/{n}.png", "{s}/masks/{n}.png"),
                ("{s}/{n}.png", "{s}_masks/{n}.png"),
            )
            for repeated in (False, True)
        }
    found |= {"split/lists": listed_split, "split/table": tabled_split}
    found |= {f"classes/{file}": partial(listed_classes, file=file) for file in CLASS_LISTS | COLOUR_LISTS}
    found |= {f"150 classes/{one}": partial(many_classes, listed=one) for one in (True, False)}
    found |= {f"table kind/{one}": partial(table, kind=one) for one in (*WRITERS, "tsv", "parquet", "xlsx", "jsonl")}
    found |= {f"table ids/{one}": partial(table, ids=one, name="numbers") for one in IDS}
    found |= {f"table names/{one}": partial(table, name=one) for one in NAMES}
    found |= {
        f"table order/{order}{first}": partial(table, order=order, first=first) for order in "CF" for first in (0, 1)
    }
    found |= {f"table form/{one}": partial(table, form=one) for one in ("class", "joined", "wide", "none")}
    found["table form/relative"] = partial(table, form="relative", first=0)
    found |= {f"joined/{one}": partial(table, form="joined", ids=one, columns=("ImageId", "ClassId", "EncodedPixels"),
                                       labels=("1", "2"), names=("class_1", "class_2"), name="numbers") for one in
              ("stem", "name", "path", "windows")}  # fmt: skip
    found |= {f"no mask/{form} {one!r}": partial(table, form=form, nothing=one) for one in ("", "-1", "nan")
              for form in ("class", "wide", "joined")}  # fmt: skip
    found |= {f"class column/{one}": partial(table, columns=("id", one, "rle")) for one in
              ("organ", "cell_type", "Label", "ClassId", "category_name", "structure")}  # fmt: skip
    found |= {f"class names/{one[0]}": partial(table, labels=one) for one in
              (("NA", "None"), ("größe", "../up"), ("a: b", "x=y"), ("{curly}", "${x}"), ("nan", "null"))}  # fmt: skip
    found["class names/latin-1"] = partial(table, labels=("Gefäß", "Größe"), kind="latin-1")
    found |= {f"table of files/{one} {two}": partial(files_table, ids=one, mask_ids=two) for one in
              ("path", "name", "stem", "windows") for two in ("path", "stem", "windows")}  # fmt: skip
    found |= {f"table of files/{one}": partial(files_table, form=one) for one in ("wide", "indexed")}
    found |= {f"table of files/{one}": partial(files_table, kind=one) for one in ("semicolon", "tab", "jsonl")}
    found |= {
        f"table of files/nothing {form}": partial(files_table, nothing="-1", form=form) for form in ("class", "wide")
    }
    found["table of files/folders that say nothing"] = partial(files_table, at=("a/{n}.png", "b/{m}.png"))
    found["table of files/other columns"] = partial(
        files_table, columns=("img", "seg", "label"), at=("x/{n}.png", "y/{m}.png")
    )
    found |= {f"without row/{one}": partial(unnamed_images, answer=one) for one in ("drop", "empty")}
    found["subset/indexed"] = partial(subset, write=pictures, name="class_2", findings=0)
    found["subset/files"] = partial(
        subset, write=partial(of_classes, mask_at="masks/{c}/{n}.png"), name="artery", findings=16
    )
    found |= {f"numbers in/{one}": partial(typed_table, kind=one) for one in ("comma", "parquet", "xlsx", "jsonl")} | {
        "precise names": precise_names,
        "public/Roboflow": roboflow,
        "public/Pascal VOC": voc,
        "public/BUSI": busi,
        "nameless/GlaS": partial(nameless, image_at="train_{i}.bmp", mask_at="train_{i}_anno.bmp"),
        "nameless/PH2": partial(
            nameless, image_at="I{i}/I{i}_Image/I{i}.bmp", mask_at="I{i}/I{i}_lesion/I{i}_lesion.bmp"
        ),
        "nameless/KITTI": partial(nameless, image_at="a/image_2/{i}.png", mask_at="a/semantic/{i}.png"),
        "nameless/Crack500": partial(nameless, image_at="crop/{i}.jpg", mask_at="crop/{i}.png"),
        "nameless/CamVid": camvid,
        "nameless/ACDC": partial(nameless, image_at="imgs/p_{i}.png", mask_at="gts/p_{i}.png"),
        "one empty mask file": empty_file,
        "table columns/outer blanks": partial(table, columns=(" image id ", " class name ", " rle ")),
        "public/Cityscapes": cityscapes,
        "public/Cityscapes in colour": partial(cityscapes, kinds=("color",)),
        "masks beside/folder": partial(masks_beside, place="images masks"),
        "jpeg masks": jpeg_masks,
        "smoothed/anti-aliased": partial(smoothed, ending=".png"),
        "smoothed/lossy WebP": partial(smoothed, ending=".webp", quality=80),
        "inverted": inverted,
        "pixels/below zero": partial(pictures, place="scans targets", kind=below_zero),
        "pixels/bool of tifffile": partial(pictures, place="scans targets", kind=of_tifffile),
        "mixed kinds": mixed_kinds,
        "one clash": one_clash,
    }
    return found


SPECIES = _species()
