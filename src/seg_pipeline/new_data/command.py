"""Command line of new-data."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from seg_pipeline.new_data.asking import Asker, tell
from seg_pipeline.new_data.classes import named, only
from seg_pipeline.new_data.fitting import Facts, fitted, merged
from seg_pipeline.new_data.layouts import find
from seg_pipeline.new_data.plan import Plan
from seg_pipeline.new_data.scanning import Contents, scan
from seg_pipeline.new_data.splits import with_splits
from seg_pipeline.new_data.writing import training_input, write
from seg_pipeline.segmentation.storage.atomic import SCRATCH


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="seg-pipeline new-data",
        description="Write an environment conf/NAME/ for the data in FOLDER, and try it on 20 images.",
    )
    parser.add_argument("folder", type=Path, help="folder with your data")
    parser.add_argument("name", help="name of the environment: lower-case letters, digits and _")
    parser.add_argument("--yes", action="store_true", help="ask nothing: accept all proposals")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing environment")
    parser.add_argument("--no-check", action="store_true", help="do not run data_processing on 20 images")
    parser.add_argument("--conf", type=Path, default=Path("conf"), help="folder of the environments (default: conf)")
    answers = parser.add_argument_group("answers to questions")
    answers.add_argument("--layout", help="layout to use if the folder has several; new-data lists them")
    answers.add_argument("--group", help="what must not be split: none, or how many parts of the file name identify it "
                         "(of case1_day2_007, 1 is case1 and 2 is case1_day2)")  # fmt: skip
    answers.add_argument("--task", help="multilabel (classes may overlap) or multiclass (one class per pixel)")
    answers.add_argument("--unlabelled-pixels", help="pixels that no mask covers: background or ignore (unknown)")
    answers.add_argument("--rle-order", help="C: runs go along rows; F: runs go down columns")
    answers.add_argument("--rle-first", help="number of the first pixel in run lengths, 1 or 0")
    answers.add_argument("--labels", help="what the values of masks or volumes are: classes, or objects of one class")
    answers.add_argument("--rle-starts", help="absolute, or relative: starts count from the end of the run before")
    answers.add_argument("--classes", help="only these classes, separated by commas; others are background. "
                         "OLD=NEW or VALUE=NEW names a class: 1=liver,2=spleen")  # fmt: skip
    answers.add_argument("--class-column", help="column of the table that names the class, or none")
    answers.add_argument("--class-name", help="name of the class if there is only one")
    answers.add_argument("--images-without-row", help="images that the table does not name: drop (not annotated) or "
                         "empty (they show no class)")  # fmt: skip
    answers.add_argument("--splits", help="given: keep the split of the data; draw: draw a new one")
    answers.add_argument("--annotators", help="where several people annotated an image: latest or vote")
    answers.add_argument("--channel", help="the nnU-Net channel to use as the image")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the environment was written and, unless --no-check, data_processing worked on it."""
    options = arguments(given)
    try:
        return _make(options)
    except ValueError as error:
        sys.stderr.write(f"new-data: {error}\n")
        return 1


def _make(options: argparse.Namespace) -> int:
    target = options.conf / options.name
    if not re.fullmatch("[a-z][a-z0-9_]*", options.name):
        raise ValueError(f"{options.name!r}: a name must be lower-case letters, digits and _, and start with a letter")
    if not (options.conf / "base").is_dir() or not Path("pyproject.toml").is_file():
        raise ValueError(
            f"{Path.cwd()}: this is not the folder of the project: it needs pyproject.toml and {options.conf}/base. "
            "Go to the project's folder and run new-data there; nothing was written"
        )
    if target.exists() and not options.overwrite:
        raise ValueError(f"{target}: this environment exists already; choose another name, or add --overwrite")
    ask = Asker(vars(options), interactive=sys.stdin.isatty() and not options.yes)
    tell(f"Looking at {options.folder}")
    plan = choose(scan(options.folder), ask)
    training = training_input(plan.pictures, ask)
    files = write(target, plan, {"training": training}, ask.decisions, overwrite=options.overwrite)
    tell(f"Wrote {target}/{', '.join(files[:-1])} and {files[-1]}.")
    if options.no_check:
        return 0
    facts, listed = _tried(options, plan)
    tell("\nSettings that fit these images:")
    settings: dict[str, Any] = {"training": training}
    for changes, reason in fitted(training, facts, list(plan.classes.values), num_images(plan, facts, listed)):
        ask.decide(reason)
        settings = merged(settings, changes)
    write(target, plan, settings, ask.decisions, overwrite=True)
    return _told(options)


def num_images(plan: Plan, facts: Facts, listed: int) -> int:
    """Number of annotated images; of volumes, as many slices per case as the trial ``listed`` for one per group."""
    if plan.cases:
        return round(listed * len(plan.cases) / facts.groups)
    return len(plan.pictures if plan.annotated is None else plan.annotated)


def choose(contents: Contents, ask: Asker) -> Plan:
    """The plan of the layout that was found, or chosen if there are several.

    Raises:
        ValueError: the folder has no known layout.
    """
    found, reasons, tables = find(contents)
    if not found:
        raise ValueError(unknown(contents, reasons))
    options = {one.name: one.about for one in found}
    name = ask.choose("layout", "The folder has several layouts. Which one do you want to use?", options, found[0].name)
    first = found.pop(list(options).index(name))
    for layout in [first] if ask.given.get("layout") else [first, *found]:
        ask.decide(f"layout: {layout.about}")
        plan = layout.read(ask)
        if isinstance(plan, Plan):
            if others := ", ".join(f"{one.name} ({one.about})" for one in found if one is not layout):
                ask.decide(f"also found, but not used (choose with --layout): {others}")
            indexed = plan.annotations["mask_format"] == "indexed"
            wanted, unlabelled = ask.given.get("classes"), ask.given.get("unlabelled_pixels")
            chosen = named(only(plan.classes, wanted, indexed=indexed, unlabelled=unlabelled), ask)
            if given := [f"{value} {one}" for one, value in chosen.values.items() if one not in plan.classes.values]:
                ask.decide(f"named: {', '.join(given)}")
            plan = replace(plan, classes=chosen)
            return with_splits(plan, contents, tables, ask)
        reasons.append(f"{layout.about}: {plan or 'the file names of images and masks do not match'}")
        ask.decide(f"not used: {reasons[-1]}")
    raise ValueError(unknown(contents, reasons))


def unknown(contents: Contents, reasons: list[str]) -> str:
    """Error message: what was found, why it is not read, and what is supported."""
    counts = {
        "image files": contents.pictures,
        "image files named as masks": list(chain(*contents.masks.values())),
        "tables": contents.tables,
        "JSON files": contents.jsons,
        "volumes": contents.volumes,
        "other files": contents.others,
    }
    held = ", ".join(f"{what}: {len(files)}" for what, files in counts.items() if files) or "an empty folder"
    why = "".join(f"\n- {reason}" for reason in reasons[:12])
    return (
        f"{contents.root}: no known layout found ({held}).{why}\nSupported: a table of run lengths or of mask files; "
        "images/ and masks/ (or labels/, annotations/, names ending in _mask) with equal file names; COCO JSON; "
        "annotations of CVAT, Label Studio, labelme, VIA, Supervisely or YOLO; NIfTI; the raw layout of nnU-Net. "
        "docs/how-to/own_data.md shows each layout and how to write an environment by hand"
    )


def _tried(options: argparse.Namespace, plan: Plan) -> tuple[Facts, int]:
    """Facts of the images tried, and how many images there are: of volumes, the slices of one case per group."""
    from kedro.io import DatasetError

    from seg_pipeline.hooks.errors import text_for_user  # these import Kedro, which only the check needs
    from seg_pipeline.new_data.checking import check

    tell("\nTrying data_processing on some of the images ...")
    try:
        result = check(options.name, Path.cwd(), options.conf.absolute(), plan)
    except (DatasetError, ValueError, RuntimeError) as error:
        if (text := text_for_user(error)) is None:
            raise
        text = re.sub(rf"\S*{SCRATCH}\w+/raw(?![\w.])", str(plan.raw_root).replace("\\", r"\\"), text)
        raise ValueError(f"data_processing failed: {text}\nCorrect {options.conf / options.name} and try "
                         f"`kedro run --env {options.name} --pipelines data_processing`") from None  # fmt: skip
    tell(summary(result))
    if result["manifest"].empty:
        raise ValueError(f"no image is usable; correct {options.conf / options.name} according to the findings above")
    picture = _picture(options)
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(result["sheet"])
    return result["facts"], result["listed"]


def _picture(options: argparse.Namespace) -> Path:
    return options.conf.absolute().parent / "data" / options.name / "new_data.png"


def _told(options: argparse.Namespace) -> int:
    picture = _picture(options)
    place = picture.relative_to(Path.cwd()) if picture.is_relative_to(Path.cwd()) else picture
    tell(f"\nLook at {place}: do the masks fit the images? If not, add an answer (seg-pipeline new-data --help) and "
         f"--overwrite.\nThen:\n  kedro run --env {options.name} --pipelines data_processing,eda\n"
         f"      checks all images; look at data/{options.name}/08_reporting: findings.html, data_set.html\n"
         f"  kedro run --env {options.name}\n      trains and scores a model; look at report.html there")  # fmt: skip
    return 0


def summary(result: dict[str, Any]) -> str:
    """Images, classes and findings, one line each."""
    from seg_pipeline.hooks.summary import finding_lines

    manifest, findings = result["manifest"], result["findings"]
    areas = {name[5:]: int((manifest[name] > 0).sum()) for name in manifest if name.startswith("area_")}
    images, groups = (
        f"{number} {what}{'s' * (number != 1)}"
        for number, what in ((result["images"], "image"), (result["groups"], "group"))
    )
    lines = [f"{len(manifest)} of {images} of {groups} are usable",
             "images with a mask: " + ", ".join(f"{name}: {number}" for name, number in areas.items()),
             "findings  " + "\n            ".join(finding_lines(findings))]  # fmt: skip
    reasons = findings.drop_duplicates("rule").head(5) if len(findings) else findings
    lines += [f"e.g. {one['rule']}: {one['reason']}" for one in reasons.to_dict("records")]
    return "\n".join(f"  {line}" for line in lines)
