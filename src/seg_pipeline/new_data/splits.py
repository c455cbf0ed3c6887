"""Keep a split that the data gives, by folders, lists of names or a table; adapt the drawn one to few groups."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.layouts.table_files import Table
from seg_pipeline.new_data.plan import RAW, Entry, Plan
from seg_pipeline.new_data.scanning import SPLIT_WORDS, Contents, base, stem
from seg_pipeline.segmentation.manifest.files import index_files

ORDER = ("train", "val", "test")


def with_splits(plan: Plan, contents: Contents, tables: dict[str, Table], ask: Asker) -> Plan:
    """The plan with the split that the data gives, if it is one and the user wants it."""
    entry = plan.catalog["image_files"]
    if not plan.pictures or "glob" not in entry:
        return _of_few_groups(plan, len(set(plan.groups)), ask)
    folder = plan.raw_root / entry["filepath"].removeprefix(RAW).lstrip("/")
    files = index_files(folder, glob=entry["glob"], pattern=entry["pattern"], columns=entry.get("columns"))
    files = files.dropna(subset="image_id").drop_duplicates("image_id")
    wanted = plan.annotated if plan.splits is None else plan.splits
    if wanted is not None:
        files = files[files["image_id"].isin(list(wanted))]
    group = files.get("group", files["image_id"]).fillna(files["image_id"])
    by_files = [("the annotation files", plan.splits)] if plan.splits else []
    for source, given in by_files or _sources(files, contents, tables):
        split = files["image_id"].map(given)
        names = [one for one in ORDER if (split == one).any()]
        if split.isna().any() or len(names) < 2 or names[0] != "train":
            continue
        counts = ", ".join(f"{(split == one).sum()} {one}" for one in names)
        twice = group[split.groupby(group).transform("nunique") > 1]
        why = f"; it divides {twice.nunique()} groups, such as {twice.iloc[0]}, which would leak" if len(twice) else ""
        options = {"given": f"that of {source} ({counts}){why}", "draw": "drawn, with whole groups"}
        chosen = ask.choose(
            "splits",
            f"{source} splits the images into train, val or test. Which split do you want?",
            options,
            "draw" if len(twice) else "given",
        )
        ask.decide(f"splits: {options[chosen]}" + (f"; not used: {options['given']}" if chosen == "draw" else ""))
        if chosen == "given":
            if "test" not in names:
                ask.decide(
                    "no test split is given, so validation images are scored (too well); --splits draw draws all three"
                )
            catalog = plan.catalog
            if len(twice):
                ask.decide("each image is its own group, as the split that you chose divides the groups")
                catalog = {**catalog, "image_files": _without_groups(entry)}
            kept = {one: given[one] for one in files["image_id"]}
            return replace(plan, catalog=catalog, splits=kept, split=plan.split or {"method": "table"})
        break
    catalog = {name: one for name, one in plan.catalog.items() if name != "predefined_splits"}
    plan = replace(plan, catalog=catalog, splits=None, split={})
    return _of_few_groups(plan, group.nunique(), ask)


def _of_few_groups(plan: Plan, number: int, ask: Asker) -> Plan:
    if number != 2:
        return plan
    singly = "" if plan.cases else "; --group none draws single images"
    ask.decide(f"splits: two groups give train and val, and no test split{singly}")
    return replace(plan, split={"shares": {"train": 0.7, "val": 0.3, "test": 0.0}})


def _without_groups(entry: Entry) -> Entry:
    pattern = entry["pattern"].replace("(?P<group>", "(?:").replace("(?P<series>", "(?:")
    columns = {name: one for name, one in entry.get("columns", {}).items() if name not in ("group", "series")}
    return {**entry, "pattern": pattern, **({"columns": columns} if columns else {})}


def _sources(files: pd.DataFrame, contents: Contents, tables: dict[str, Table]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a split is given, and the split by image id."""
    paths = files["path"].map(lambda path: path.removeprefix(contents.root.absolute().as_posix() + "/"))
    keys: dict[str, str] = {}
    for name, path in zip(files["image_id"], paths, strict=True):
        keys |= dict.fromkeys((name, path, stem(path), path.rsplit("/", 1)[-1], base(path)), name)
    lists = [file for file in contents.others if file.endswith(".txt") and base(file).lower() in SPLIT_WORDS]
    given: dict[str, str] = {}
    for file in lists:
        for line in (contents.root / file).read_text("utf-8-sig", errors="replace").splitlines():
            text = (line.split() or [""])[0].replace("\\", "/").lstrip("./")
            ends = [text.split("/", at)[-1] for at in range(text.count("/") + 1)]
            if name := next((keys[end] for one in ends for end in (one, stem(one)) if end in keys), None):
                given[name] = SPLIT_WORDS[base(file).lower()]
    if given:
        yield ", ".join(lists), given
    for file, table in tables.items():
        for column in table.rows:
            words = table.rows[column].str.lower()
            if 1 < words.nunique() <= len(SPLIT_WORDS) and set(words.dropna()) <= SPLIT_WORDS.keys():
                for other in table.rows.drop(columns=column):
                    ids = table.rows[other].map(keys)
                    if ids.notna().mean() > 0.5:
                        yield f"{file}, column {column}", dict(zip(ids, words.map(SPLIT_WORDS), strict=True))
    rows = [path.split("/")[:-1] for path in paths]
    for at in range(min(map(len, rows))):
        folders = [row[at] for row in rows]
        given = {image: _split_word(name) for image, name in zip(files["image_id"], folders, strict=True)}
        if len(set(folders)) > 1 and all(given.values()):
            yield f"the folders {', '.join(sorted(set(folders)))}", given


def _split_word(folder: str) -> str:
    parts = folder.lower().replace("-", "_").split("_")
    return next((SPLIT_WORDS[part] for part in parts if part in SPLIT_WORDS), "")
