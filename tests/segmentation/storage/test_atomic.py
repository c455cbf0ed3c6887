"""Files and folders that are replaced as a whole, and what a killed writer leaves."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seg_pipeline.segmentation.storage import atomic
from seg_pipeline.segmentation.storage.atomic import ScratchFolder, beside, replace_folder, replacing, sweep

WRITE = """
import sys
from pathlib import Path
from seg_pipeline.segmentation.storage.atomic import beside
with beside(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as path:
    (path / "part" if path.is_dir() else path).write_text("half")
    print(path.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """Starts another process that writes ``out.png`` and waits; the process and the name of its temporary file."""
    processes = []

    def start(kind="file"):
        command = [sys.executable, "-c", WRITE, str(tmp_path / "out.png"), kind]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return processes[-1], processes[-1].stdout.readline().strip()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_replaces_the_old_one_and_keeps_the_suffix_while_it_is_written(tmp_path):
    target = tmp_path / "new" / "table.parquet"
    for content in ("first", "second"):
        with replacing(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.suffix == ".parquet"
            temporary.write_text(content)
        assert target.read_text() == content
        assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "history.json"
    with replacing(target) as mine, replacing(target) as theirs:
        mine.write_text("mine")
        theirs.write_text("theirs")
    assert target.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_does_not_remove_the_file_of_one_that_took_its_name(tmp_path):
    target = tmp_path / "history.json"
    with beside(target) as first:
        first.rename(target)
        with beside(target) as second:
            assert second == first
            second.write_text("second")
            sweep(tmp_path)
            assert second.read_text() == "second"


@pytest.mark.fault(
    scenario="killed while any file or folder is written",
    command="any pipeline",
    outcome="the next writer removes the leftovers of killed ones, never of living ones",
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_writer_takes_the_place_of_killed_ones_and_of_no_living_one(tmp_path, writer, kind):
    target, folder = tmp_path / "out.png", kind == "folder"
    (killed, first), (living, second), (also_killed, third) = writer(kind), writer(kind), writer(kind)
    assert [first, second, third] == [".out.part0.png", ".out.part1.png", ".out.part2.png"]
    for process in (killed, also_killed):
        process.kill()
        process.wait()
    with beside(target, folder=folder) as path:
        assert path.name == first
        assert (names(path) == []) if folder else (path.read_bytes() == b"")
        assert names(tmp_path) == [first, second]
    assert names(tmp_path) == [second]
    living.kill()
    living.wait()
    with beside(target, folder=folder):
        pass
    assert names(tmp_path) == []


def test_sweeping_removes_what_killed_writers_left_and_nothing_else(tmp_path, writer):
    (killed, first), (_, living) = writer("folder"), writer("folder")
    killed.kill()
    killed.wait()
    others = [".hidden.png", ".out.part.png", "out.part0.png", ".part0.png"]
    for name in others:
        (tmp_path / name).touch()
    assert first in names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == sorted([living, *others])
    sweep(tmp_path / "missing")


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    old, new = tmp_path / "bundle", tmp_path / "new"
    old.mkdir()
    (old / "model").write_text("old")
    with pytest.raises(FileNotFoundError):
        replace_folder(new, old)
    assert names(tmp_path) == ["bundle"]
    new.mkdir()
    replace_folder(new, old)
    assert (names(tmp_path), names(old)) == (["bundle"], [])


@pytest.mark.fault(
    scenario="file system without locks", command="any pipeline", outcome="files are still replaced as a whole"
)
def test_a_file_system_without_locks_gets_names_of_their_own(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic.fcntl, "flock", refuse)
    target = tmp_path / "a.json"
    with replacing(target) as one, replacing(target) as other:
        assert one != other
        assert re.fullmatch(r"\.a\.part\d{20,}\.json", one.name)
        one.write_text("one")
        other.write_text("other")
        sweep(tmp_path)
    assert (names(tmp_path), target.read_text()) == (["a.json"], "one")


def test_an_error_names_the_file_that_the_user_knows(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with (
        pytest.raises(OSError, match=re.escape(f"Read-only file system: '{tmp_path}/scores.json'")),
        replacing(tmp_path / "scores.json"),
    ):
        pass


def test_a_scratch_folder_removes_those_of_killed_processes_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("seg_pipeline-left", "seg_pipeline-just_made", "another-left"):
        (tmp_path / name).mkdir()
    with ScratchFolder() as in_use:
        for path in tmp_path.iterdir():
            if path.name != "seg_pipeline-just_made":
                os.utime(path, (0, 0))
        with ScratchFolder() as mine:
            found = {path.name for path in tmp_path.iterdir()}
            assert found == {"seg_pipeline-just_made", "another-left", *(Path(one).name for one in (in_use, mine))}
    assert {path.name for path in tmp_path.iterdir()} == {"seg_pipeline-just_made", "another-left"}
