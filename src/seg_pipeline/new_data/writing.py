"""Write the files of an environment from a plan."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import evenly
from seg_pipeline.new_data.layouts.table_files import AS_TEXT
from seg_pipeline.new_data.plan import DATA, RAW, Plan
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.storage.atomic import beside

LARGE = 384
"""Images whose shorter side exceeds this many pixels are cropped to windows instead of resized."""
WINDOW = 256
VIEW = 512
"""Pixels to which the shorter side of a larger image is scaled before windows are cut."""
MOST_STRETCHED = 1.05
"""Most that resizing may change the ratio of height to width; beyond it, images are padded."""
MANY = 5000
"""Above this many images, several processes read them faster."""


def training_input(pictures: list[Path], ask: Asker) -> dict[str, Any]:
    """Training parameters for the sizes and the most frequent kind of pixels of the images."""
    if not pictures:
        return {"input": {"resize_mode": "pad"}}  # of volumes; the trial cuts slices, which tell the size
    looked = {path: image for path in evenly(pictures, 20) if (image := _readable(path)) is not None}
    if not looked:
        raise ValueError(f"{pictures[0].parent}: none of the sampled images can be read")
    heights, widths = zip(*(image.shape[:2] for image in looked.values()), strict=True)
    height, width = int(np.median(heights)), int(np.median(widths))
    settings: dict[str, Any] = {}
    if min(height, width) <= LARGE:
        settings["size"], settings["resize_mode"] = whole_input(heights, widths)
        how = f"whole images at {settings['size'][0]} x {settings['size'][1]} ({settings['resize_mode']})"
    else:
        scale = round(min(1.0, VIEW / min(height, width)), 2)
        settings |= {"size": [WINDOW, WINDOW], "resize_mode": "crop", "scale": scale, "zoom": 1.5}
        how = f"windows of {WINDOW} x {WINDOW} of images scaled by {scale:g}"
    kinds = {path: f"{image.dtype}, {'colour' if image.ndim == 3 else 'grey'}" for path, image in looked.items()}
    kind, _ = Counter(kinds.values()).most_common(1)[0]
    ask.decide(f"network input: {how}; images are {height} x {width} (median of {len(looked)}), {kind}")
    if others := [f"{path.name} ({one})" for path, one in kinds.items() if one != kind]:
        ask.decide(f"{len(others)} of {len(looked)} sampled images are of another kind, such as {others[0]}")
    if kind != "uint8, colour":
        return {"input": settings}
    return {"input": settings | {"normalisation": "encoder", "window": None}, "sampling": {"augmentation": "light"}}


def _readable(path: Path) -> np.ndarray | None:
    """The image; None if it cannot be read, which data_processing will report."""
    try:
        return read_image(path)
    except ValueError:
        return None


def whole_input(heights: Sequence[int], widths: Sequence[int]) -> tuple[list[int], Literal["resize", "pad"]]:
    """Input size in multiples of 32, and how whole images get it: stretched by at most ``MOST_STRETCHED``, else padded.

    Among the sizes that stretch no image more, it is the nearest to the median image of at most ``WINDOW`` pixels.
    """
    height, width = float(np.median(heights)), float(np.median(widths))
    scale = min(1.0, WINDOW / max(height, width))
    near = [side * 32 for side in range(1, WINDOW // 32 + 1)]
    aspects = np.divide(heights, widths)
    fitting = [(h, w) for h in near for w in near if np.abs(np.log(h / w / aspects)).max() <= np.log(MOST_STRETCHED)]
    kept = [one for one in fitting if 0.75 <= np.sqrt(one[0] * one[1] / (height * width)) / scale <= 1.34]
    if kept:
        best = min(kept, key=lambda one: abs(np.log(one[0] * one[1] / (height * width * scale**2))))
        return list(best), "resize"
    return padded_size(height, width), "pad"


def padded_size(height: float, width: float) -> list[int]:
    """Input size in multiples of 32 that holds a whole image, scaled down to at most ``WINDOW`` pixels."""
    scale = min(1.0, WINDOW / max(height, width))
    return [max(32, int(np.ceil(side * scale / 32)) * 32) for side in (height, width)]


def parameters(plan: Plan, settings: dict[str, Any]) -> dict[str, Any]:
    classes = plan.classes
    annotations = dict(plan.annotations)
    if classes.background:
        annotations["background_values"] = classes.background
    if classes.ignore:
        annotations["ignore_values"] = classes.ignore
    if classes.nearest:
        annotations["nearest_value"] = True
    if classes.objects:
        annotations["multiple_masks"] = "instances"
    processing: dict[str, Any] = {"annotations": annotations, **({"split": plan.split} if plan.split else {})}
    if len(plan.pictures) > MANY:
        processing["num_workers"] = -1
    listed = [{"name": name, "value": value} for name, value in classes.values.items()]
    dataset: dict[str, Any] = {"task": classes.task, "classes": listed, "unlabelled_pixels": classes.unlabelled_pixels}
    if annotations.get("multiple_masks") == "instances" and classes.task == "multilabel":
        dataset["objects"] = True
    return {"dataset": dataset, "data_processing": processing, **{name: one for name, one in settings.items() if one}}


def write(folder: Path, plan: Plan, settings: dict[str, Any], decisions: list[str], *, overwrite: bool) -> list[str]:
    """Write the files of an environment, all or none; return their names.

    Args:
        settings: `training` and other groups of the environment's parameters.
        decisions: what was found and chosen, written above the parameters.

    Raises:
        ValueError: the environment exists, and ``overwrite`` is false.
    """
    if folder.exists() and not overwrite:
        raise ValueError(f"{folder}: this environment exists already; choose another name, or add --overwrite")
    values = _escaped(parameters(plan, settings))
    entries = {name: {**_escaped(entry), "metadata": _metadata(entry)} for name, entry in plan.catalog.items()}
    texts = {}
    if plan.splits and "predefined_splits" not in entries:
        table = pd.DataFrame(plan.splits.items(), columns=["image_id", "split"])
        texts["splits.csv"] = table.to_csv(index=False, lineterminator="\n")
        place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        entries["predefined_splits"] = {
            "type": "pandas.CSVDataset",
            "filepath": _escaped(f"{place.as_posix()}/splits.csv"),
            "load_args": AS_TEXT,
            "metadata": {"kedro-viz": {"layer": "raw"}},
        }
    places = {
        "data_root": f"data/{folder.name}",
        "raw_root": plan.raw_root.as_posix().replace("${", r"\\\${"),  # resolved here and again in the catalog
        "phantom": None,
        "if_missing": "Put the data there, or give its folder with `--params raw_root=FOLDER`.",
    }
    texts["catalog.yml"] = "\n".join(_text({name: entry}) for name, entry in entries.items())
    texts["parameters.yml"] = _comment(decisions) + "\n".join(_text({k: v}) for k, v in values.items())
    told = _comment([f"Written by `new-data` from {plan.raw_root.name}."])
    texts["globals.yml"] = told + _text(places, flow=False)
    with beside(folder, folder=True) as made:
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for name in texts:
            (made / name).replace(folder / name)
    return sorted(texts)


def _escaped(value: Any) -> Any:
    """The value with ``${`` in names and paths written so that OmegaConf does not resolve it."""
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    if not isinstance(value, str):
        return value
    own = next((one for one in (RAW, DATA) if value.startswith(one)), "")
    return own + value[len(own) :].replace("${", "\\${")


def _metadata(entry: dict[str, Any]) -> dict[str, Any]:
    if entry.get("pattern", "") is None:
        return {"kedro-viz": {"layer": "raw"}}
    viz = {"layer": "raw", "preview_args": {"nrows": 6}}
    return {"kedro-viz": viz, "seg_pipeline": {"if_missing": "${globals:if_missing}"}}


def _text(values: dict[str, Any], *, flow: bool | None = None) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=118, allow_unicode=True)


def _comment(lines: list[str]) -> str:
    wrapped = [part for line in lines for part in textwrap.wrap(line, 114, subsequent_indent="  ")]
    return "".join(f"# {line}\n" for line in wrapped) + "\n" * (len(lines) > 1)


class _Dumper(yaml.SafeDumper):
    """Writes no YAML anchors, which a list used twice would get."""

    def ignore_aliases(self, _: Any) -> bool:
        return True
