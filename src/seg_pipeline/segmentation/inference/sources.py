"""Images to predict, as a table with one row per image: image_id, path, file and optional columns.

Optional columns: height and width, which are checked against the file; series and frame, for networks that take
neighbouring frames as input.
"""

import glob as globbing
import logging
import os
from pathlib import Path, PurePosixPath

import pandas as pd

from seg_pipeline.segmentation.images.listing import PICTURES, as_text, find_files
from seg_pipeline.segmentation.images.remote import is_remote, list_remote, open_file, read_remote
from seg_pipeline.segmentation.inference.journal import LINES, SETTINGS
from seg_pipeline.segmentation.manifest.files import NOT_TEXT

log = logging.getLogger(__name__)
LISTS = (".csv", ".parquet", ".txt")
OPTIONAL = ("height", "width", "series", "frame")


def listed_images(source: str | Path) -> pd.DataFrame:
    """The table of ``find_images``; skipped files are logged."""
    table, skipped = find_images(source)
    if skipped:
        log.warning("%d %s of %s skipped: no known image suffix", skipped, "file" if skipped == 1 else "files", source)
    return table


def find_images(source: str | Path) -> tuple[pd.DataFrame, int]:
    """Find the images of a folder (with subfolders), a glob such as "scans/**/*.png", an image file, or a list of them.

    All of these, and the entries of a list, may be addresses such as s3://bucket/scans.

    A list is a text file with one path per line, or a table (CSV, parquet) with a column ``path`` (or ``file``) and
    optionally image_id, height, width, series and frame. The manifest is such a table. Paths are relative to
    the folder of the list.

    Returns:
        The table sorted by image_id, which is the path relative to the folder, without suffix (for a list whose images
        are elsewhere, relative to their common folder); and the number of files skipped because their suffix is not
        in ``PICTURES``.

    Raises:
        ValueError: the path does not exist, holds no image, or is a list without the columns it needs.
    """
    path = Path(source)
    if is_remote(source):
        listed = path.suffix.lower() in LISTS and not globbing.has_magic(str(source))
        table, num_skipped = (_images_in_list(str(source)), 0) if listed else _images_at_address(str(source))
    elif path.is_dir():
        table, num_skipped = _images_in_folder(path, "**/*", f"{path}")
    elif path.is_file() and path.suffix.lower() in LISTS:
        table, num_skipped = _images_in_list(str(path)), 0
    elif path.is_file():
        table, num_skipped = _table([path], path.parent), 0
    elif globbing.has_magic(str(source)):
        folder = _fixed_part(str(source))
        table, num_skipped = _images_in_folder(folder, path.relative_to(folder).as_posix(), f"{source}")
    else:
        raise ValueError(
            f"{source}: no such file or folder; pass a folder, an image, a glob in quotes such as 'scans/**/*.png', or "
            "a list of images (.txt with one path per line; .csv or .parquet with a column path)"
        )
    return _check_ids(table, str(source)), num_skipped


def _images_at_address(source: str) -> tuple[pd.DataFrame, int]:
    parts = source.rstrip("/").split("/")
    fixed = next((number for number, part in enumerate(parts) if globbing.has_magic(part)), len(parts))
    if fixed == len(parts) and parts[-1].lower().endswith(PICTURES):
        fixed -= 1
    address, glob = "/".join(parts[:fixed]), "/".join(parts[fixed:]) or "**/*"
    files = list_remote(address, glob)
    images = [Path("/", file) for file in files if file.lower().endswith(PICTURES)]
    if not images:
        raise ValueError(f"{source}: no image among its {len(files)} files; image files end in {', '.join(PICTURES)}")
    table = _table(images, Path("/"))
    return table.assign(path=f"{address}/" + table["file"]), len(files) - len(images)


def _fixed_part(pattern: str) -> Path:
    """The folder that contains all matches of a glob."""
    parts = Path(pattern).parts[:-1]
    magic = (number for number, part in enumerate(parts) if globbing.has_magic(part))
    return Path(*parts[: next(magic, len(parts))])


def _images_in_folder(folder: Path, glob: str, source: str) -> tuple[pd.DataFrame, int]:
    files = [folder / file for file in _without_results(folder, find_files(folder, glob))]
    images = [path for path in files if path.suffix.lower() in PICTURES]
    if not images:
        volumes = any(".nii" in path.suffixes or path.suffix in (".nrrd", ".mha", ".mhd", ".dcm") for path in files)
        told = "; of volumes, write the slices as 16-bit PNG or TIFF" if volumes else ""
        examples = f", such as {', '.join(path.name for path in files[:3])}" if files else ""
        raise ValueError(
            f"{source}: no image among its {len(files)} files{examples}; image files end in {', '.join(PICTURES)}, "
            f"others can be named in a list{told}"
        )
    return _table(images, folder), len(files) - len(images)


def _without_results(folder: Path, files: list[str]) -> list[str]:
    """Leave out files in output folders of ``predict_folder``, whose masks would be predicted as images."""
    above = {file: [parent.as_posix() for parent in PurePosixPath(file).parents][:-1] for file in files}
    inner = {one for folders in above.values() for one in folders}
    results = {one for one in inner if all((folder / one / name).is_file() for name in (SETTINGS, LINES))}
    if results:
        log.info("%s: results of earlier predictions are skipped", ", ".join(map(str, sorted(results))))
    return [file for file in files if not results.intersection(above[file])]


def _table(paths: list[Path], folder: Path) -> pd.DataFrame:
    relative = [path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name) for path in paths]
    problems = [NOT_TEXT if as_text(str(path)) != str(path) else None for path in paths]
    paths, relative = ([Path(as_text(str(path))) for path in group] for group in (paths, relative))
    names = [path.with_suffix("").as_posix() for path in relative]
    duplicates = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    ids = [path.as_posix() if name in duplicates else name for path, name in zip(relative, names, strict=True)]
    table = {"image_id": ids, "path": [str(path) for path in paths], "file": [path.as_posix() for path in relative]}
    return pd.DataFrame(table | ({"problem": problems} if any(problems) else {}))


def _images_in_list(path: str) -> pd.DataFrame:
    """The table of a list; the list and its images may be at addresses."""
    if path.lower().endswith(".txt"):
        lines = [line.strip() for line in _read_text(path).splitlines()]
        named = [line for line in lines if line and not (line.startswith("#") and _is_comment(path, line))]
        entries = pd.DataFrame({"path": named}, dtype="str")
    else:
        entries = _read_table(path)
    column = next((name for name in ("path", "file") if name in entries), None)
    if column is None:
        raise ValueError(
            f"{path}: has the columns {', '.join(map(str, entries))}, expected `path` with the images' paths"
        )
    for name in (column, "image_id"):
        if name in entries and (empty := entries[name].isna()).any():
            raise ValueError(f"{path}: row {int(empty.argmax()) + 1} has no {name}")
    if (other := ~entries[column].map(lambda one: isinstance(one, str))).any():
        raise ValueError(f"{path}: {column} in row {int(other.argmax()) + 1} is not text, expected a path")
    for name in ("height", "width", "frame"):
        if name in entries and not pd.api.types.is_numeric_dtype(entries[name].dropna().infer_objects()):
            raise ValueError(f"{path}: the column {name} must hold numbers, found {entries[name].dtype}")
    addresses = [name if is_remote(name) else _join(path, name) for name in entries[column]]
    paths = [_local_path(address) for address in addresses]
    table = _table(paths, _common_folder(paths, _local_path(path).parent))
    table["path"] = [
        address if is_remote(address) else local for address, local in zip(addresses, table["path"], strict=True)
    ]
    if "image_id" in entries:
        table["image_id"] = entries["image_id"].astype(str).to_numpy()
    for name in OPTIONAL:
        if name in entries:
            table[name] = entries[name].to_numpy()
    return table


def _is_comment(path: str, line: str) -> bool:
    """Whether a line that starts with # is a comment, not the name of a file."""
    return is_remote(path) or not Path(_join(path, line)).is_file()


def _join(path: str, name: str) -> str:
    """The path or address of a file that a list names relative to its own folder."""
    protocol, separator, rest = path.rpartition("://")
    return protocol + separator + os.path.normpath(Path(rest).parent / name)


def _local_path(path: str) -> Path:
    return Path("/", path.partition("://")[2]) if is_remote(path) else Path(os.path.normpath(path))


def _common_folder(paths: list[Path], folder: Path) -> Path:
    """The list's own folder if it contains all images, else their common folder."""
    if all(path.is_relative_to(folder) for path in paths):
        return folder
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # on several drives, or a mix of relative and absolute paths
        return folder


def _read_text(path: str) -> str:
    try:
        with open_file(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8; save the list as UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


def _read_table(path: str) -> pd.DataFrame:
    try:
        source = read_remote(path) if is_remote(path) else path
        if path.lower().endswith(".parquet"):
            table = pd.read_parquet(source)
            return table.astype({name: object for name in ("path", "file", "image_id") if name in table})
        return pd.read_csv(
            source, encoding="utf-8-sig", dtype={"image_id": str, "path": str, "file": str, "series": str}
        )
    except Exception as error:  # pandas and pyarrow share no exception class  # noqa: BLE001
        raise ValueError(f"{path}: cannot be read as a table ({error!s:.200})".replace("\n", " ")) from None


def _check_ids(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table sorted by image_id, after checking that the ids are unique and usable as file names."""
    if table.empty:
        raise ValueError(f"{source}: lists no image")
    if (duplicates := table["image_id"].duplicated()).any():
        raise ValueError(
            f"{source}: {int(duplicates.sum())} images share their image_id with another, such as "
            f"{table.loc[duplicates, 'image_id'].iloc[0]!r}; each image_id must be unique"
        )
    for name in table["image_id"]:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or ".." in parts or parts[0] == "/" or ":" in parts[0]:
            raise ValueError(f"{source}: image_id {name!r} cannot be used as a file name; it must be a relative path")
    return table.sort_values("image_id", ignore_index=True)
