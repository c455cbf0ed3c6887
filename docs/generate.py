"""Write the pages of docs/reference that come from declarations: parameters, findings, tables, faults and figures."""

import ast
import dataclasses
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import annotated_types
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from seg_pipeline.params import Parameters
from seg_pipeline.segmentation.manifest.column_types import Column, Table
from seg_pipeline.segmentation.manifest.finding_rules import RULES
from seg_pipeline.segmentation.manifest.table_schemas import TABLES
from seg_pipeline.segmentation.settings.training import InputSettings

REFERENCE = Path(__file__).parent / "reference"
TESTS = Path(__file__).parents[1] / "tests"
IMAGES = Path(__file__).parent / "images"

PARAMETERS = """# Parameters

The values in use are in `conf/base/parameters*.yml`; an environment overrides them in `conf/<name>/parameters.yml`, and
the command line overrides both. There, prefix a parameter with its section: `--params training.fit.epochs=40`. A
misspelt key or a value out of bounds stops the run before its first node.

*default* holds if no file sets the parameter; `conf/base` may set another value.

Any architecture and encoder of segmentation_models_pytorch works. To list them:

<!-- needs: a few seconds -->
```bash
python -c "import segmentation_models_pytorch as smp; print(*smp.MODEL_ARCHITECTURES_MAPPING)"
python -c "import segmentation_models_pytorch as smp; print(*smp.encoders.get_encoder_names())"
python -c "import timm; print(*timm.list_models(pretrained=True))"   # write tu-NAME
```

"""

FINDINGS = """# Findings

A *finding* is one thing that `data_processing` found wrong with one input: a row of
`data/08_reporting/findings.parquet` ([columns](tables.md#findings)). `findings.html` beside it shows them with the
worst images and their masks.

![The findings of the sample](../images/findings.png)

| action | meaning |
|---|---|
| dropped | the input is not used |
| repaired | the input is used after the repair that the reason describes |
| flagged | the input is used unchanged; look at it |

Every input is in the manifest or has a finding; the run stops if the counts do not add up.
`data_processing.strict: true` stops a run at the first input that is dropped.

To drop or flag images by name, list patterns such as `case7_day0_*` in `excluded_images.csv` in the raw folder (columns
images, action, reason) or under `data_processing.excluded_images`. `conf/uw_madison/excluded_images.csv` is an example.

## Rules

| rule | subject | meaning | what to do |
|---|---|---|---|
"""

TABLES_HEAD = """# Tables

The tables that pass between pipelines; each is checked when it is saved and loaded. A column whose name ends in
`<class>` exists once per class. A *nullable* column may lack values, an *optional* one may be absent.

If the catalog loads a table of 10,000 rows or more, masks (`mask`, `mask_<class>`, `object_map_<class>`, `ignore`) and
the texts beside them that few steps read (`path`, `file`, `content_hash`, `thumbnail`; of annotations, `image_id` and
`class`) stay on disk: such a column reads the values that are asked for, and `column.astype("str")` reads them all.
They are in an Arrow file such as `.manifest.parquet-….arrow`, which is made again if it is deleted; the Parquet file is
whole. See [Costs and limits](../how-to/cluster.md#costs-and-limits).
"""
FAULTS = """# What happens when something goes wrong

Full disks, killed processes, hostile files, slow servers: each row is a fault with the commands that it was tried with
(`NAME` alone: `kedro run --pipeline NAME`), what happens, and the test that checks it.

Every output file is written beside its target and renamed when it is complete, so a fault leaves the earlier file.
Repeat the command once the cause is gone.

| fault | command | what happens | test |
|---|---|---|---|
"""

GALLERY = """# Gallery of figures

Every figure that a run draws and what to conclude from it, shown for the embedded sample. The files are in
`data/08_reporting/`; `data_set.html`, `search.html` and `report.html` there open them large. A figure with nothing to
show is not drawn. The F1 below is that of drawn discs that touch, once split and once as connected components.

`series.gif` and `series.mp4` show the series with the most annotated pixels frame by frame (`eda.animation`), if there
are series; `point_chart.json` is a Plotly chart with one point per image, which Kedro-Viz and
`notebooks/01_explore_data.ipynb` open.
"""
SECTIONS = {
    "eda": ("The data", "kedro run --pipelines data_processing,eda"),
    "hparam_search": ("The search", "kedro run --pipeline hparam_search"),
    "reporting": ("Training and results", "kedro run --pipelines training,evaluation,reporting"),
}
"""Folders of docs/images, with the title and the command of their section."""
OWN_CAPTIONS = {
    "overfit_curve": ("Overfitting check", "If the network cannot overfit four images, look for a fault in the data."),
    "weight_decay_curves": ("Weight decays", "Often matters less than the rate. Not drawn for a single value."),
    "search_heat_map": ("Rate and decay", "Which pairs were tried. Not drawn if only one of them varies."),
    "prediction_sheet": (
        "Predictions, from worst to best",
        "A strong tint is a false positive, an outline without a tint a false negative, a ring marks what is too "
        "small to see.",
    ),
    "area_differences": (
        "Areas of two readers",
        "A mean away from 0: one reader draws larger outlines. Drawn by `agreement`; here the second reader is the "
        "sample's masks, randomly grown or shrunk.",
    ),
}
"""Title and meaning of the figures that the pages show without a caption."""
WORDS = {int: "integer", float: "number", str: "text", bool: "true, false", type(None): "null", object: "any"}
BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}", "min_length": "at least {} long",
          "max_length": "at most {} long", "pattern": "such as `{}`"}  # fmt: skip


class Setting(NamedTuple):
    name: str
    kind: Any
    bounds: tuple[Any, ...]
    default: Any
    """``dataclasses.MISSING`` if the parameter is required."""
    meaning: str


def docstrings_of(kind: type) -> dict[str, str]:
    """The string below each field of a class, as one line."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind)))
    body = typing.cast("ast.ClassDef", tree.body[0]).body
    found = {}
    for one, after in itertools.pairwise(body):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and is_text:
            text = typing.cast("ast.Constant", typing.cast("ast.Expr", after).value).value
            found[one.target.id] = " ".join(str(text).split())
    return found


def settings_of(kind: Any) -> Iterator[Setting]:
    """Settings of a pydantic model or a dataclass."""
    meaning: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        if not base.__module__.startswith("pydantic"):
            meaning |= docstrings_of(base)
    if issubclass(kind, BaseModel):
        for name, one in kind.model_fields.items():
            default = dataclasses.MISSING if one.default is PydanticUndefined else one.default
            default = one.default_factory() if one.default_factory else default
            yield Setting(one.alias or name, one.annotation, tuple(one.metadata), default, meaning.get(name, ""))
        return
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if (kind, field.name) == (InputSettings, "reading"):
            continue  # set by `dataset.reading`, which is listed
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default  # type: ignore[operator]
        yield Setting(field.name, hints[field.name], (), default, meaning.get(field.name, ""))


def group_of(kind: Any) -> type | None:
    """Class of settings that a field holds, alone or in a list; None if it holds a plain value."""
    inner = [typing.get_args(one)[0] if typing.get_origin(one) is Annotated else one for one in typing.get_args(kind)]
    for one in (kind, *inner):
        if isinstance(one, type) and (issubclass(one, BaseModel) or dataclasses.is_dataclass(one)):
            return one
    return None


def in_words(kind: Any) -> str:
    """Type in the words of someone who writes YAML."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _bounded(in_words(inner[0]), inner[1:])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(in_words, inner)))
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if inner:
        return _collection(origin, inner)
    return WORDS.get(kind, "group" if group_of(kind) else getattr(kind, "__name__", str(kind)))


def _collection(origin: Any, inner: tuple[Any, ...]) -> str:
    if origin is dict:
        return f"map of {in_words(inner[0])} to {in_words(inner[1])}"
    of_few = origin is tuple and inner[-1] is not Ellipsis
    return f"{len(inner)} x {in_words(inner[0])}" if of_few else f"list of {in_words(inner[0])}"


def _bounded(text: str, bounds: tuple[Any, ...]) -> str:
    flat = [
        one for bound in bounds for one in (bound if isinstance(bound, annotated_types.GroupedMetadata) else [bound])
    ]
    found = [
        BOUNDS[key].format(_number(value))
        for one in flat
        for key in BOUNDS
        if (value := getattr(one, key, None)) is not None
    ]
    return " ".join([text, *dict.fromkeys(found)])


def _number(value: Any) -> str:
    return f"{value:,}".replace(",", "_") if isinstance(value, int) and value >= 100_000 else f"{value}"


def sections(kind: type = Parameters, prefix: str = "", seen: dict[type, str] | None = None) -> Iterator[str]:
    """Sections of a page: a heading and a table per group, in the order of declaration; a link if it is ``seen``."""
    seen = {} if seen is None else seen
    found = [(one, group_of(one.kind)) for one in settings_of(kind)]
    own = [one for one, group in found if group is None]
    if own:
        about = " ".join((kind.__doc__ or "").split()) if prefix else ""
        listed = [f"## {prefix.rstrip('.') or 'Whole project'}\n"]
        listed += [f"{about}\n"] * bool(about and not about.startswith(f"{kind.__name__}("))
        listed += ["| parameter | value | default | meaning |", "|---|---|---|---|"]
        yield "\n".join([*listed, *(_row(one) for one in own)]) + "\n"
    for one, group in found:
        several = "[]" if typing.get_origin(one.kind) is list else ""
        name = f"{prefix}{one.name}{several}"
        if group in seen:
            yield f"## {name}\n\nThe settings of [{seen[group]}](#{re.sub(r'[^a-z_-]', '', seen[group])}).\n"
        elif group is not None:
            seen[group] = name
            yield from sections(group, f"{name}.", seen)


def _row(one: Setting) -> str:
    cells = (f"`{one.name}`", _bounded(in_words(one.kind), one.bounds), _default(one.default), one.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    return f"`{text or (list(value) if isinstance(value, tuple) else value)}`"


def _table_sections(tables: tuple[Table, ...]) -> Iterator[str]:
    """A section per table; one like an earlier table lists only what differs."""
    for number, table in enumerate(tables):
        shared = {one: len(set(one.columns) & set(table.columns)) for one in tables[:number]}
        base = max(shared, key=shared.__getitem__, default=None)
        if base and shared[base] < max(5, len(base.columns) // 2):
            base = None
        yield _table_section(table, base)


def _table_section(table: Table, base: Table | None) -> str:
    own = [one for one in table.columns if base is None or one not in base.columns]
    names = {one.name for one in table.columns}
    gone = [f"`{one.name}`" for one in base.columns if one.name not in names] if base else []
    less = f" without {', '.join(gone)}" if gone else ""
    about = table.about + (f" It has the columns of [{base.name}](#{base.name}){less} and:" if base else "")
    lines = [f"| `{one.name}` | {_column_type(one)} | {one.meaning} |" for one in own]
    head = f"## {table.name}\n\n{about}\n\n| column | type | meaning |\n|---|---|---|\n"
    return head + "\n".join(lines) + "\n"


def _column_type(column: Column) -> str:
    """Type and bounds in words, such as ``integer from 1; nullable``."""
    limits = (("from", column.least), ("to", column.most))
    kind = " ".join([str(column.kind), *(f"{word} {limit:g}" for word, limit in limits if limit is not None)])
    said = [", ".join(column.one_of) or kind, "unique" * column.unique, "nullable" * column.nullable]
    return "; ".join(filter(None, [*said, "" if column.required else "optional"]))


class Fault(NamedTuple):
    """Arguments of ``pytest.mark.fault``, and the test that has the mark."""

    scenario: str
    command: str
    outcome: str
    test: str
    file: str
    review: str = ""
    """Number of the finding of a review that the test closes."""


def faults() -> list[Fault]:
    """Marks of all tests, by scenario and command."""
    found = []
    for file in sorted(TESTS.rglob("test_*.py")):
        for test in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for mark in getattr(test, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    given = {str(one.arg): ast.literal_eval(one.value) for one in mark.keywords}
                    found.append(Fault(**given, test=test.name, file=file.relative_to(TESTS.parent).as_posix()))
    return sorted(found, key=lambda one: (one.scenario.lower(), one.command, one.test))


def _fault_row(one: Fault) -> str:
    names = one.command.replace("kedro run --pipeline ", "").split(", ")
    commands = ", ".join(name if name == "any pipeline" else f"`{name}`" for name in names)
    return f"| {one.scenario} | {commands} | {one.outcome} | [{Path(one.file).name}](../../{one.file}) |"


def captions() -> dict[str, tuple[str, str]]:
    """Title and meaning of each figure, as the pages of a run show them."""
    folder = Path(inspect.getfile(Parameters)).parents[1] / "segmentation/report/templates"
    texts = [(folder / f"{page}.html").read_text(encoding="utf-8") for page in ("data_set", "report")]
    found = [re.findall(r'\("(\w+)", "([^"]+)", "([^"]+)"\)', text) for text in texts]
    return {name: (title, about) for page in found for name, title, about in page} | OWN_CAPTIONS


def _gallery_sections() -> Iterator[str]:
    """A section per folder of pictures: its command, and each figure with its caption."""
    known = captions()
    for folder, (title, command) in SECTIONS.items():
        yield f"## {title}\n\n<!-- needs: data -->\n```bash\n{command}\n```\n"
        files = {file.stem: file.name for file in (IMAGES / folder).iterdir()}
        for name in [*(one for one in known if one in files), *sorted(files.keys() - known.keys())]:
            heading, about = known[name]
            yield f"### {heading}\n\n![{heading}](../images/{folder}/{files[name]})\n\n{about} `{name}.png`\n"


def pages() -> dict[str, str]:
    """Contents of the generated pages, by file name."""
    rules = [f"| `{name}` | {rule.about} | {rule.meaning} | {rule.remedy} |" for name, rule in RULES.items()]
    return {
        "parameters.md": PARAMETERS + "\n".join(sections()),
        "findings.md": FINDINGS + "\n".join(rules) + "\n",
        "tables.md": "\n".join([TABLES_HEAD, *_table_sections(TABLES)]),
        "faults.md": FAULTS + "\n".join(map(_fault_row, faults())) + "\n",
        "gallery.md": "\n".join([GALLERY, *_gallery_sections()]),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
