"""The layout of the source tree: few enough entries in a folder to be read at a glance."""

from __future__ import annotations

from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "seg_pipeline"
MOST_ENTRIES = 16
ROOMS = 18
"""``segmentation`` is a table of contents: rooms and nothing else, each with a sentence in its ``__init__``."""
FOLDERS = [folder for folder in (SOURCE, *SOURCE.rglob("*/")) if folder.is_dir() and folder.name != "__pycache__"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(SOURCE.parent).as_posix())
def test_a_folder_has_few_entries(folder):
    entries = sorted(path.name for path in folder.iterdir() if path.name not in ("__pycache__", "__init__.py"))
    assert len(entries) <= (ROOMS if folder.name == "segmentation" else MOST_ENTRIES - 1), entries


def test_the_library_has_no_module_at_its_root():
    assert [path.name for path in (SOURCE / "segmentation").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize(
    "room", sorted((SOURCE / "segmentation").glob("*/__init__.py")), ids=lambda file: file.parent.name
)
def test_each_room_says_what_it_is_for(room):
    assert room.read_text().startswith('"""')
