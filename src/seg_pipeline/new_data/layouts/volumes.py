"""NIfTI volumes, and nnU-Net's raw layout."""

import re
from glob import escape as glob_escape
from pathlib import Path

import numpy as np
from scipy import ndimage

from seg_pipeline.new_data import names as naming
from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import evenly
from seg_pipeline.new_data.plan import DATA, NO_MASK_FILES, RAW, Classes, Entry, Plan, Value
from seg_pipeline.new_data.scanning import (
    SPLIT_WORDS,
    Contents,
    common_end,
    common_folder,
    endings_of,
    glob_of,
    images_of,
    literal,
    mask_folder,
    stem,
)
from seg_pipeline.segmentation.formats.dicom import is_dicom
from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.formats.volume_cases import ANY, find_cases, read_nnunet
from seg_pipeline.segmentation.formats.volume_files import (
    NIFTI,
    VOLUMES,
    needs_package,
    read_slices,
    structure_names,
    whole_labels,
)
from seg_pipeline.segmentation.formats.volumes import Case
from seg_pipeline.segmentation.settings.training import Task

MANY_OBJECTS = 5
"""Only labels up to this number or above can be numbers of objects."""
MOST_LABELS = 1000
"""Brain atlases have some hundred labels; more values are intensities."""
LEAST_PATIENTS = 3
MOST_SCANS = 12
"""Fewer folders, or more volumes per folder, are sites or kinds of disease rather than patients."""
AIR = -500
"""Hounsfield units below which a volume is taken for CT."""


def read_nnunet_raw(contents: Contents, file: str, ask: Asker) -> Plan:
    """Plan for the folder that holds ``file``, a dataset.json."""
    root = (contents.root / file).parent
    content = read_json(contents.root / file)
    numbers = sorted(int(one) for one in content["channel_names"])
    channels = None if len(numbers) in (1, 3) else [int(ask.choose(
        "channel", f"Which of the channels {content['channel_names']} is the image?",
        {str(one): content["channel_names"][str(one)] for one in numbers}, str(numbers[0])))]  # fmt: skip
    cases, labels = read_nnunet(root, channels=channels)
    ignored = "ignore" in labels
    wanted: dict[str, Value] = {name: name for name in labels if name != "ignore"}
    values = [value for name in wanted for value in labels[name]]
    shared = len(values) > len(set(values))
    ask.decide(f"{file}: nnU-Net, {len(cases)} cases, classes {', '.join(wanted)}")
    ask.decide("task: " + ("multilabel, as labels belong to several regions" if shared else _one_label(wanted)))
    values_in_files = _other_values([case for case in cases if not case.problem], labels, ask)
    names = _case_pattern([case.name for case in cases], [], ask).replace("(?P<series>", "(?:")
    entry = {
        "type": "seg_pipeline.datasets.volumes.NnunetDataset",
        "filepath": RAW,
        **({"values": values_in_files} if values_in_files else {}),
        "cases": names,
        "channels": channels,
        "slices": _slices(cases, ask),
    }
    task: Task = "multilabel" if shared or len(wanted) == 1 else "multiclass"
    classes = Classes(wanted, task, ignore=["ignore"] if ignored else [])
    grouped, _ = read_nnunet(root, channels=channels, names=names)
    return _plan(root, entry, classes, grouped, {"multiple_masks": "merge"})


def _other_values(cases: list[Case], labels: dict[str, list[int]], ask: Asker) -> dict[str, int]:
    """The value of the only class, if the files hold another than dataset.json says, such as 255."""
    found = sorted(_label_values(cases) - {0})
    unknown = [value for value in found if value not in {one for values in labels.values() for one in values}]
    if len(labels) == 1 and len(found) == len(unknown) == 1:
        (name,) = labels
        ask.decide(
            f"labels hold {found[0]}, dataset.json says {labels[name]}: read as {name} (`values` in the catalog)"
        )
        return {name: found[0]}
    if unknown:
        ask.decide(f"labels hold {unknown}, which dataset.json does not declare; their masks become findings")
    return {}


def decathlon_names(content: dict) -> dict[str, str]:
    """Class names by value in the dataset.json of the Medical Segmentation Decathlon; {} for another file."""
    labels = content.get("labels")
    if not isinstance(labels, dict) or not all(str(key).isdigit() and isinstance(labels[key], str) for key in labels):
        return {}
    return {str(key): name for key, name in labels.items()}


def _one_label(classes: dict) -> str:
    return "multilabel, of one class" if len(classes) == 1 else "multiclass, as a voxel has one label"


def read_nifti(contents: Contents, known: dict[str, str], ask: Asker) -> Plan | str:
    """The plan, or why images and labels cannot be told apart or do not belong together."""
    images = images_of(contents.volumes)
    labels = [file for file in contents.volumes if mask_folder(file) is not None and file not in images]
    pairs = {"images": case_pattern(images, labels), "labels": case_pattern(labels, images)}
    if plan := plan_of_pairs(contents, pairs, images, known, ask):
        return plan
    if not labels:
        return (
            f"the names of the {len(images)} volumes, such as {images[0]}, do not tell images from labels: put them in "
            "images/ and labels/, or let the names of labels end in _seg or _mask"
        )
    return (
        "each case needs one image and one label, with one name or in a folder of its own; found "
        f"{len(images)} images, such as {', '.join(images[:2])}, and {len(labels)} labels, such as "
        f"{', '.join(labels[:2])}. Several images of a case can be the channels of nnU-Net's raw layout; several "
        "labels must be merged into one file"
    )


def plan_of_pairs(
    contents: Contents,
    pairs: dict[str, dict[str, str] | None],
    images: list[str],
    known: dict[str, str],
    ask: Asker,
) -> Plan | None:
    """Plan for the patterns of images and labels, of which ``images`` match the first; None if no case has both."""
    of_images, of_labels = pairs["images"], pairs["labels"]
    if of_images is None or of_labels is None:
        return None
    labels = [file for file in contents.volumes + contents.others if re.fullmatch(of_labels["pattern"], file)]
    for file in (*images[:1], *labels[:1]):
        if package := needs_package(contents.root / file):
            raise ValueError(f"reading {file} needs {package}; install it with `pip install 'seg_pipeline[medical]'`")
    matches = [match for file in images if (match := re.fullmatch(of_images["pattern"], file))]
    wanted = not ask.given.get("group")
    told = [match["group"] for match in matches if wanted and "group" in match.groupdict()]
    nested = _case_pattern([match["series"] for match in matches], told, ask)
    known_group = "(?P<group>" in nested or not told
    pattern = of_images["pattern"].replace("(?P<group>", "(?:") if known_group else of_images["pattern"]
    of_images = {**of_images, "pattern": re.sub(r"\(\?P<series>[^)]*\)", lambda _: f"(?P<series>{nested})", pattern)}
    whole = [case for case in find_cases(contents.root, images=of_images, labels=of_labels) if not case.problem]
    if not whole:
        return None
    ask.decide(f"volumes: {len(images)} images, {len(whole)} cases with labels")
    entry = {
        "type": "seg_pipeline.datasets.volumes.VolumeDataset",
        "filepath": RAW,
        "images": of_images,
        "labels": of_labels,
        "slices": _slices(whole, ask),
    }
    if named := _structures(whole):
        ask.decide(f"classes: {', '.join(named)} (names of structures, which may overlap)")
        return _plan(contents.root, entry, Classes({name: name for name in named}, "multilabel"), whole, {})
    if not known and _number_objects(whole) and _are_objects(ask):
        entry["values"] = {"object": ANY}
        return _plan(
            contents.root, entry, Classes({"object": "object"}, "multilabel"), whole, {"multiple_masks": "instances"}
        )
    return _plan(contents.root, entry, _classes(whole, known, ask), whole, {})


def _structures(cases: list[Case]) -> list[str]:
    """Names of the structures in a sample of DICOM SEG, RTSTRUCT or 3D Slicer's files; [] for other labels."""
    return sorted({name for case in evenly(cases, 10) if case.labels for name in structure_names(case.labels)})


def _number_objects(cases: list[Case]) -> bool:
    """Whether the labels count from 1, to another number in each case, and each is one connected piece."""
    last = []
    for case in evenly(cases, 4):
        assert case.labels is not None
        try:
            values = whole_labels(read_slices(case.labels, axis="axial", labels=True).values)
        except ValueError:
            return False
        numbers = np.unique(values[values != 0])
        if not len(numbers) or numbers.tolist() != list(range(1, len(numbers) + 1)):
            return False
        places = ndimage.find_objects(values)
        if any(ndimage.label(values[places[one - 1]] == one, np.ones((3, 3, 3)))[1] > 1 for one in numbers[:20]):
            return False
        last.append(len(numbers))
    return max(last) >= MANY_OBJECTS and len(set(last)) == len(last) > 1


def _are_objects(ask: Asker) -> bool:
    question = "Each label is one connected piece, and they count to another number in each case. What are the labels?"
    options = {"objects": "numbers of objects of one class", "classes": "classes, such as vertebrae"}
    answer = ask.choose("labels", question, options, "objects")
    ask.decide(f"labels are {options[answer]} (--labels {' or '.join(options)})")
    return answer == "objects"


def case_pattern(files: list[str], others: list[str]) -> dict[str, str] | None:
    """Glob and pattern whose group ``series`` names the case: the part of the path that differs in each file, or the
    adjacent parts that do together. The group ``group`` is a folder above it that may be the patient."""
    rows, other_rows = ([stem(file).split("/") for file in some] for some in (files, others))
    if not files or len({len(row) for row in rows}) > 1:
        return None
    if (span := _span(rows)) is None:
        return None
    last, patient = len(rows[0]) - 1, _patient(rows, span[0])
    names, others_names = ([row[-1] for row in some] for some in (rows, other_rows))
    ends = [(_common_start(some), common_end(some)) for some in (names, others_names)]
    start, end = ("" if ours == theirs else ours for ours, theirs in zip(*ends, strict=True))
    if start and span[1] == last > span[0]:
        return None  # it would be a part of the case's name
    own = [literal(start), literal(end)]
    texts = [_part([row[at] for row in rows], own if at == last else ["", ""]) for at in range(last + 1)]
    if patient is not None:
        texts[patient] = "(?P<group>[^/]+)"
    case = "/".join(["[^/]+"] * (span[1] - span[0] + 1))
    around = own if span[1] == last else ["", ""]
    texts[span[0] : span[1] + 1] = [f"{around[0]}(?P<series>{case}){around[1]}"]
    folder = common_folder(files)
    glob = (f"{folder}/" if folder else "") + glob_of(files, folder, others)
    if start and "*" in (name := glob.rpartition("/")[2]):
        glob = glob.removesuffix(name) + glob_escape(start) + name[name.rindex("*") :]
    nifti = all(file.endswith(NIFTI) for file in files)
    ending = r"\.nii(?:\.gz)?" if nifti else endings_of(files)
    return {
        "glob": re.sub(r"\.nii(\.gz)?$|\.\*$", ".nii*", glob) if nifti else glob,
        "pattern": "/".join(texts) + ending,
    }


def _common_start(names: list[str]) -> str:
    """What all names start with up to a separator, such as volume-."""
    return common_end([name[::-1] for name in names])[::-1]


def _span(rows: list[list[str]]) -> tuple[int, int] | None:
    """First and last of the fewest adjacent parts that differ in each path together."""
    for length in range(1, len(rows[0]) + 1):
        for first in range(len(rows[0]) - length + 1):
            if len({tuple(row[first : first + length]) for row in rows}) == len(rows):
                return first, first + length - 1
    return None


def _patient(rows: list[list[str]], before: int) -> int | None:
    """The first part before another that may be the patient."""
    for at in range(before):
        found = {row[at] for row in rows}
        split = {*map(str.lower, found)} <= {*SPLIT_WORDS}
        if LEAST_PATIENTS <= len(found) < len(rows) <= MOST_SCANS * len(found) and not split:
            return at
    return None


def _part(texts: list[str], own: list[str]) -> str:
    """Pattern of one part of the paths: its text where that is always the same, else what is common to the names."""
    return literal(texts[0]) if len(set(texts)) == 1 else f"{own[0]}[^/]+{own[1]}"


def _case_pattern(names: list[str], folders: list[str], ask: Asker) -> str:
    """Pattern of the cases' names, with the group that must not be split unless one of the folders is it."""
    proposed = naming.propose([f"{name}/0" for name in names], group=ask.given.get("group") or "auto", whole=True)
    inner = proposed.pattern.removeprefix("(?P<image_id>").removesuffix(")")
    inner = inner[: inner.rindex("/")] if "/" in inner else ".+"
    inner = inner.replace("(?P<series>", "(?:").replace(r"(?P<frame>\d+)", r"\d+")
    if inner.count("(") - inner.count(r"\(") != inner.count(")") - inner.count(r"\)") or "(?P<group>" not in inner:
        inner = ".+"
    matches = [match.groupdict() for name in names if (match := re.fullmatch(inner, name))]
    if number := len({match["group"] for match in matches if "group" in match}):
        ask.decide(f"groups: {number}, by the cases' names")
    elif folders:
        ask.decide(f"groups: {len({*folders})}, by the folders of the cases, such as {folders[0]}")
    else:
        ask.decide(f"groups: each of the {len(names)} cases is one")
    return inner


def _slices(cases: list[Case], ask: Asker) -> Entry:
    """How volumes are cut; CT keeps Hounsfield units that are comparable between scans."""
    lowest = [low for case in evenly(cases, 2) if _is_volume(case) and (low := _lowest(case.images[0])) is not None]
    ct = bool(lowest) and min(lowest) < AIR
    if ct:
        ask.decide(f"intensities go down to {min(lowest):g}: CT, kept as Hounsfield units + 1024")
    rescale = {"slope": 1, "intercept": -1024} if ct else None
    return {"path": f"{DATA}/02_intermediate/slices", "axis": "axial", "rescale": rescale}


def _lowest(path: Path) -> float | None:
    """The lowest value; None if the volume cannot be read, which data_processing reports."""
    try:
        return float(np.nanmin(read_slices(path, axis="axial").values))
    except ValueError:
        return None


def _is_volume(case: Case) -> bool:
    return bool(case.images) and (case.images[0].name.lower().endswith(VOLUMES) or is_dicom(case.images[0]))


def _label_values(cases: list[Case]) -> set[int]:
    """Values in a sample of the labels.

    Raises:
        ValueError: none of the sampled labels can be used.
    """
    values: set[int] = set()
    problems = []
    for case in evenly(cases, 10):
        assert case.labels is not None
        try:
            read = read_slices(case.labels, axis="axial", labels=True).values
            values |= set(np.unique(whole_labels(read)).tolist())
        except ValueError as error:  # data_processing reports it
            problems.append(f"{case.labels.name}: {error}")
    if problems and not values:
        raise ValueError(f"none of the {len(problems)} sampled labels can be used, such as {problems[0]}")
    return values


def _classes(cases: list[Case], known: dict[str, str], ask: Asker) -> Classes:
    found = _label_values(cases)
    values: dict[str, Value] = {known.get(str(one), f"label_{one}"): one for one in sorted(found) if one > 0}
    if len(values) > MOST_LABELS:
        raise ValueError(
            f"{cases[0].labels}: the sampled volumes hold {len(values)} values: intensities, or numbers of objects "
            "that have gaps; see docs/how-to/volumes.md"
        )
    if not values:
        raise ValueError(f"{cases[0].labels}: no label is above 0 in the sampled volumes; are these the labels?")
    ask.decide(f"classes: {', '.join(f'{one} {name}' for name, one in values.items())} (in a sample of the labels)")
    ignored: list[Value] = [one for one in sorted(found) if one < 0]
    if ignored:
        ask.decide(f"not a class: {ignored} unknown (ignored)")
    ask.decide(f"task: {_one_label(values)}")
    return Classes(values, "multilabel" if len(values) == 1 else "multiclass", ignore=ignored)


def _plan(root: Path, entry: Entry, classes: Classes, cases: list[Case], annotations: dict) -> Plan:
    annotations = {
        "mask_format": "rle",
        "columns": {"image_id": "image_id", "class": "class", "mask": "mask"},
        "rle_order": "C",
        "rle_first": 1,
        **annotations,
    }
    catalog = {
        "raw_metadata": {**entry, "part": "annotations"},
        "image_files": {**entry, "part": "images"},
        "mask_files": NO_MASK_FILES,
    }
    whole = [case for case in cases if case.labels and not case.problem]
    files = [[*case.images, case.labels] for case in whole if case.labels]
    return Plan(root, catalog, classes, annotations, [], files, [case.group or case.name for case in whole])
