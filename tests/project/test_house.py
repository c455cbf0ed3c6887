"""The layout of src and tests: few enough entries in a folder to be read at a glance."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE, TESTS = ROOT / "src" / "seg_pipeline", ROOT / "tests"
MOST_ENTRIES = 16
NOT_COUNTED = {"__pycache__", "__init__.py", "conftest.py"}
ROOMS = 20
"""``segmentation`` is a table of contents: rooms and nothing else, each with a sentence in its ``__init__``. So is the
folder of its tests."""
FOLDERS = [
    folder
    for top in (SOURCE, TESTS)
    for folder in (top, *top.rglob("*/"))
    if folder.is_dir() and folder.name != "__pycache__"
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_a_folder_has_few_entries(folder):
    entries = sorted(path.name for path in folder.iterdir() if path.name not in NOT_COUNTED)
    assert len(entries) <= (ROOMS if folder.name == "segmentation" else MOST_ENTRIES - 1), entries


def test_the_library_has_no_module_at_its_root():
    assert [path.name for path in (SOURCE / "segmentation").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize(
    "room", sorted((SOURCE / "segmentation").glob("*/__init__.py")), ids=lambda file: file.parent.name
)
def test_each_room_says_what_it_is_for(room):
    assert room.read_text().startswith('"""')
