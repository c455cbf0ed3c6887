"""Files that are not here: at addresses that fsspec reads, such as ``s3://bucket/scans/a.png``.

Credentials come from where the store's own tools look, such as AWS_PROFILE or ~/.aws; an address that holds some is
refused, because addresses are written to tables and logs. Nothing is opened in advance: fsspec does not survive a fork.
"""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ANY_FOLDERS = "**"


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address with a protocol."""
    return "://" in str(path)[:40]


def read_remote(path: str) -> io.BytesIO:
    """The bytes of a file, which is read once and whole.

    Raises:
        FileNotFoundError, PermissionError: as for a local file.
        OSError: the store does not answer, even after the retries of its client.
    """
    with _as_system_errors():
        return io.BytesIO(_system(path).cat_file(path))


def copy_remote(path: str, target: Path, *, length: int | None = None) -> None:
    """Write a file, or its first ``length`` bytes, to a local one; raises as ``read_remote``."""
    with _as_system_errors():
        if length is None:
            _system(path).get_file(path, str(target))
        else:
            target.write_bytes(_system(path).cat_file(path, start=0, end=length))


@contextmanager
def _as_system_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is not None or isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise OSError(errno.EIO, _said(error)) from error
    except ValueError:
        raise
    except Exception as error:  # clients of stores name no common error
        raise OSError(errno.EIO, _said(error)) from error


def stamp_remote(path: str) -> tuple[int, str] | None:
    """Size, and etag or time of change; None if there is no such file or the store does not answer."""
    try:
        about = _system(path).info(path)
    except Exception:  # as above: the file will be read, and said to be unreadable  # noqa: BLE001
        return None
    return _stamp(about)


def _stamp(about: dict[str, Any]) -> tuple[int, str]:
    names = ("ETag", "etag", "e_tag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
    changed = next((about[name] for name in names if about.get(name)), "")
    return int(about.get("size") or 0), str(changed)


def exists_remote(folder: str) -> bool:
    """Whether there is anything below an address."""
    return bool(_system(folder).exists(folder))


def list_remote(folder: str, glob: str) -> list[str]:
    """As ``listing.find_files``, in one listing of all that is below ``folder``.

    Raises:
        ValueError: the store refuses or does not answer.
    """
    return matching(list(stamps_below(folder)), glob)


def stamps_below(folder: str) -> dict[str, tuple[int, str]]:
    """Size, and etag or time of change, of each file below an address, by its path from there; "." is a file itself.

    Raises:
        ValueError: the store refuses or does not answer.
    """
    system = _system(folder)
    root = system._strip_protocol(folder).rstrip("/")
    system.invalidate_cache()
    try:
        found = system.find(folder, detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # as above  # noqa: BLE001
        raise ValueError(
            f"{folder}: cannot be listed ({_said(error)}); check the address and your credentials"
        ) from None
    below = {path: path.removeprefix(f"{root}/") for path in found if path.startswith(f"{root}/")}
    return {name: _stamp(found[path]) for path, name in below.items()} or (
        {".": _stamp(found[root])} if root in found else {}
    )


def matching(files: list[str], glob: str) -> list[str]:
    """Sorted files whose parts match those of a glob; hidden ones are skipped unless it names them."""
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    return sorted({one for one in files if any(_fits(name.split("/"), parts) for name in (one, lower_ending(one)))})


def _fits(names: list[str], parts: list[str]) -> bool:
    if not parts or not names:
        return not parts and not names
    if names[0].startswith(".") and not parts[0].startswith("."):
        return False
    if parts[0] == ANY_FOLDERS:
        return (len(parts) == 1 and len(names) == 1) or _fits(names[1:], parts) or _fits(names, parts[1:])
    return fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


def lower_ending(file: str) -> str:
    """A name with its ending in lower case."""
    stem, dot, ending = file.rpartition(".")
    return f"{stem}{dot}{ending.lower()}"


def _system(path: str) -> Any:
    """fsspec's file system; it keeps one per process.

    Raises:
        ValueError: its package is not installed, or the address holds a password.
    """
    import fsspec

    protocol, _, rest = path.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ValueError(
            f"an address of {protocol}:// holds a user or password, which would be written to tables; take it out and "
            "give it where the store's own tools look, such as AWS_PROFILE"
        )
    try:
        return fsspec.filesystem(protocol)
    except ImportError:
        extra = "seg_pipeline[s3]" if protocol in ("s3", "s3a") else f"fsspec[{protocol}]"
        raise ValueError(
            f"reading {protocol}:// needs a package that is not installed; `pip install '{extra}'`"
        ) from None
    except ValueError:
        raise ValueError(
            f"{path}: there is no protocol {protocol}://; expected s3://, gs://, https:// or another"
        ) from None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def open_file(path: str) -> Any:
    """A file to read from, local or remote."""
    return read_remote(path) if is_remote(path) else open(path, "rb")  # noqa: PTH123  a Path costs as much
