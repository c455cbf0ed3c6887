"""Write the pages of docs/reference that come from declarations: parameters, findings, tables and tested faults."""

import ast
import dataclasses
import inspect
import itertools
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

PARAMETERS = """# Parameters

Every setting, generated from the declarations that validate it. The values in use are in `conf/base/parameters*.yml`;
an environment overrides them in `conf/<name>/parameters.yml`, and the command line overrides both. On the command line,
prefix a parameter with its section: `--params training.fit.epochs=40`. A misspelt key or a value out of bounds stops
the run before its first node.

The column *default* says what holds if no file sets the parameter; `conf/base` may set another value.

Any architecture and encoder of segmentation_models_pytorch works. To list them:

<!-- needs: a few seconds -->
```bash
python -c "import segmentation_models_pytorch as smp; print(*smp.MODEL_ARCHITECTURES_MAPPING)"
python -c "import segmentation_models_pytorch as smp; print(*smp.encoders.get_encoder_names())"
python -c "import timm; print(*timm.list_models(pretrained=True))"   # write tu-NAME
```

"""

FINDINGS = """# Findings

A *finding* is one thing that `data_processing` found wrong with one input. Findings are the rows of
`data/08_reporting/findings.parquet` (`image_id, file, row, rule, reason, action`). `findings.html` beside it shows them
in a browser, with the worst images and their masks; it needs no network. `row` is the line number of the metadata
table as an editor counts it.

![The findings of the sample](../images/findings.png)

| action | meaning |
|---|---|
| dropped | the input is not used |
| repaired | the input is used after the repair that the reason describes |
| flagged | the input is used unchanged; look at it |

No row and no file is lost in any other way: every input is in the manifest or has a finding, and the run stops if the
counts do not add up. `data_processing.strict: true` stops a run at the first input that is dropped.

You can also drop or flag images by name: list them in `excluded_images.csv` in the raw folder (columns images, action,
reason) or under `data_processing.excluded_images`. `images` is a pattern such as `case7_day0_*`.
`conf/uw_madison/excluded_images.csv` lists the scans of that data set that are known to be faulty.

## Rules

| rule | subject | meaning | what to do |
|---|---|---|---|
"""

TABLES_HEAD = """# Tables

The tables that pass between pipelines, generated from the declarations that validate each table when it is saved and
loaded. A column whose name ends in `<class>` exists once per class.

`mask`, `mask_<class>`, `object_map_<class>` and `ignore` stay on disk if the catalog loads a table of 10,000 rows or
more: such a column reads the masks that are asked for, and `column.astype("str")` reads them all. They are in an Arrow
file beside the Parquet file, such as `.manifest.parquet-….arrow`, which is made again if it is deleted. The Parquet
file is whole: `pandas.read_parquet` reads everything. See [Costs and limits](../how-to/cluster.md#costs-and-limits) for
what a million images need.
"""
FAULTS = """# What happens when something goes wrong

Full disks, killed processes, hostile files, slow servers: each row is a fault, the commands that it was tried with,
what happens, and the test that holds it. The page is generated from the marks of these tests.

A rule holds for all: every output file is written beside its target and renamed when it is complete, so a fault leaves
the file of before. Repeat the command once the cause is gone.

| fault | command | what happens | test |
|---|---|---|---|
"""
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


def sections(kind: type = Parameters, prefix: str = "") -> Iterator[str]:
    """Sections of a page: a heading and a table per group, in the order of declaration."""
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
        if group is not None:
            yield from sections(group, f"{prefix}{one.name}{several}.")


def _row(one: Setting) -> str:
    cells = (f"`{one.name}`", _bounded(in_words(one.kind), one.bounds), _default(one.default), one.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    return f"`{text or (list(value) if isinstance(value, tuple) else value)}`"


def _table_sections(tables: tuple[Table, ...]) -> Iterator[str]:
    """A section per table; one that extends an earlier table lists only what it adds."""
    for number, table in enumerate(tables):
        earlier = [one for one in tables[:number] if set(one.columns) < set(table.columns)]
        base = max(earlier, key=lambda one: len(one.columns), default=None)
        yield _table_section(table, base)


def _table_section(table: Table, base: Table | None) -> str:
    own = [one for one in table.columns if base is None or one not in base.columns]
    about = table.about + (f" It has the columns of [{base.name}](#{base.name}) and:" if base else "")
    lines = [f"| `{one.name}` | {_column_type(one)} | {one.meaning} |" for one in own]
    head = f"## {table.name}\n\n{about}\n\n| column | type | meaning |\n|---|---|---|\n"
    return head + "\n".join(lines) + "\n"


def _column_type(column: Column) -> str:
    """Type and bounds in words, such as ``integer from 1; may be missing``."""
    limits = (("from", column.least), ("to", column.most))
    kind = " ".join([str(column.kind), *(f"{word} {limit:g}" for word, limit in limits if limit is not None)])
    said = [", ".join(column.one_of) or kind, "unique" * column.unique, "may be missing" * column.nullable]
    return "; ".join(filter(None, [*said, "" if column.required else "optional column"]))


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
    commands = (
        ", ".join(f"`{name}`" for name in one.command.split(", ")) if one.command != "any pipeline" else one.command
    )
    test = f"[{one.test.removeprefix('test_').replace('_', ' ')}](../../{one.file})"
    return f"| {one.scenario} | {commands} | {one.outcome} | {test} |"


def pages() -> dict[str, str]:
    """Contents of the generated pages, by file name."""
    rules = [f"| `{name}` | {rule.about} | {rule.meaning} | {rule.remedy} |" for name, rule in RULES.items()]
    return {
        "parameters.md": PARAMETERS + "\n".join(sections()),
        "findings.md": FINDINGS + "\n".join(rules) + "\n",
        "tables.md": "\n".join([TABLES_HEAD, *_table_sections(TABLES)]),
        "faults.md": FAULTS + "\n".join(map(_fault_row, faults())) + "\n",
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
