import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.listing import list_files
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.manifest.table_forms import as_text

UW = (
    r".*/(?P<series>case(?P<case>\d+)_day\d+)"
    r"/slice_(?P<frame>\d+)_(?P<width>\d+)_(?P<height>\d+)_(?P<spacing_x>[\d.]+)\.png"
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_names_become_columns(tmp_path):
    touch(tmp_path, "case7/case7_day20/slice_0012_266_310_1.50.png", "case7/case7_day3/slice_0009_360_276_0.75.png")
    columns = {"image_id": "{series}_slice_{frame}", "group": "case{case}"}
    table = index_files(tmp_path, glob="**/*.png", pattern=UW, columns=columns)
    assert table.columns.tolist() == [
        *("path", "file", "series", "case", "frame", "width", "height", "spacing_x", "image_id", "group"),
    ]
    assert table.iloc[0].to_dict() == {
        "path": f"{tmp_path.as_posix()}/case7/case7_day20/slice_0012_266_310_1.50.png",
        "file": "case7/case7_day20/slice_0012_266_310_1.50.png",
        "series": "case7_day20",
        "case": "7",
        "frame": 12,
        "width": 266,
        "height": 310,
        "spacing_x": 1.5,
        "image_id": "case7_day20_slice_0012",  # the frame as written, not as the number
        "group": "case7",
    }
    assert table["image_id"].tolist() == ["case7_day20_slice_0012", "case7_day3_slice_0009"]


def test_dtypes_are_fixed_by_column(tmp_path):
    touch(tmp_path, "a/case1_day1/slice_1_2_3_4.5.png")
    dtypes = index_files(tmp_path, glob="**/*.png", pattern=UW).dtypes.astype(str)
    assert dtypes[["frame", "width", "height", "spacing_x"]].tolist() == ["Int64", "Int64", "Int64", "float64"]
    assert pd.api.types.is_string_dtype(index_files(tmp_path, glob="**/*.png", pattern=UW)["case"])


def test_a_file_that_does_not_match_keeps_its_row(tmp_path):
    touch(tmp_path, "scan_2.png", "scan_10.png", "notes.png")
    table = index_files(tmp_path, glob="*", pattern=r"scan_(?P<frame>\d+)\.png", columns={"image_id": "s{frame}"})
    assert table["file"].tolist() == ["notes.png", "scan_10.png", "scan_2.png"]
    assert table["frame"].isna().tolist() == [True, False, False]
    assert table["frame"].tolist()[1:] == [10, 2]
    assert table["image_id"].isna().tolist() == [True, False, False]
    assert table["image_id"].tolist()[1:] == ["s10", "s2"]


def test_a_group_that_took_no_part_leaves_what_is_made_of_it_missing(tmp_path):
    touch(tmp_path, "a_left.png", "b.png")
    pattern = r"(?P<name>[ab])(_(?P<side>left|right))?\.png"
    columns = {"image_id": "{name}", "view": "{name}-{side}"}
    table = index_files(tmp_path, glob="*", pattern=pattern, columns=columns)
    assert table["image_id"].tolist() == ["a", "b"]
    assert table["view"].tolist()[0] == "a-left"
    assert table[["side", "view"]].iloc[1].isna().all()


def test_the_glob_chooses_files_and_passes_folders_and_hidden_files_over(tmp_path):
    touch(tmp_path, "a.png", "b.jpg", ".hidden.png", "deep/c.png", "deep/folder.png/d.png")
    assert list_files(tmp_path, "**/*.png") == ["a.png", "deep/c.png", "deep/folder.png/d.png"]
    assert list_files(tmp_path, "*/*.png") == ["deep/c.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_linked_folders_are_followed(tmp_path):
    touch(tmp_path / "elsewhere", "scan_1.png")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    table = index_files(tmp_path / "raw", glob="**/*.png", pattern=r"train/scan_(?P<frame>\d)\.png")
    assert table["path"].tolist() == [f"{tmp_path.as_posix()}/raw/train/scan_1.png"]
    assert table["frame"].tolist() == [1]


def test_a_relative_folder_gives_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, "raw/1.png"))
    table = index_files("raw", glob="*.png", pattern=r"(?P<frame>\d)\.png")
    assert table["path"].tolist() == [f"{tmp_path.as_posix()}/raw/1.png"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"^{tmp_path}/raw: no such folder; put the data there or change the path$"):
        index_files(tmp_path / "raw", glob="*", pattern=".*")


def test_a_glob_without_files_says_what_is_there(tmp_path):
    touch(tmp_path, "d.tif", "c.tif", "b/a.tif", "e.tif")
    text = f"{tmp_path}: no file matches the glob '**/*.png'; the folder holds 4 files, such as b/a.tif, c.tif, d.tif"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        index_files(tmp_path, glob="**/*.png", pattern=".*")


def test_an_empty_folder_is_named_so(tmp_path):
    with pytest.raises(ValueError, match=r"the folder holds 0 files$"):
        index_files(tmp_path, glob="*", pattern=".*")


def test_a_pattern_that_matches_nothing_is_shown_beside_names(tmp_path):
    touch(tmp_path, "deep/1.png", "deep/2.png")
    text = (
        f"{tmp_path}: the pattern '(?P<frame>\\\\d)\\\\.png' matches none of its 2 files, such as deep/1.png, "
        "deep/2.png; it must match the whole path below the folder"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        index_files(tmp_path, glob="**/*.png", pattern=r"(?P<frame>\d)\.png")


@pytest.mark.parametrize(
    ("pattern", "columns", "text"),
    [
        ("(?P<frame", {}, "the file name pattern '(?P<frame' is not a valid regular expression: missing >"),
        (r"(?P<file>.*)", {}, "a file index already has the columns ['file']; rename these groups of the pattern"),
        (r"(?P<a>.*)", {"path": "{a}"}, "a file index already has the columns ['path']"),
        (
            r"(?P<case>.)(?P<day>.).*",
            {"group": "{csae}"},
            "column 'group' is made from '{csae}', but the pattern has no group 'csae'; its groups are ['case', 'day']",
        ),
        (r"(?P<a>.*)", {"group": "{a"}, "column 'group': '{a' is not a valid format string: expected '}'"),
        (r"(?P<frame>.*)\.png", {}, "x1.png: its name gives frame = 'x1', expected a whole number; see the pattern"),
        (r"(?P<spacing_y>.*)\.png", {}, "x1.png: its name gives spacing_y = 'x1', expected a number; see the pattern"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, pattern, columns, text):
    touch(tmp_path, "x1.png")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        index_files(tmp_path, glob="*", pattern=pattern, columns=columns)


def test_columns_made_from_groups_take_their_own_type(tmp_path):
    touch(tmp_path, "1_02.png")
    table = index_files(tmp_path, glob="*", pattern=r"(?P<a>\d)_(?P<b>\d+)\.png", columns={"frame": "{a}{b}"})
    assert table["frame"].dtype == "Int64"
    np.testing.assert_array_equal(table["frame"].to_numpy(dtype=int), [102])


def test_a_loop_of_links_lists_each_file_once(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png")
    for link, target in (("a/up", tmp_path), ("a/self", tmp_path / "a"), ("b/nothing", "nothing"), ("b/x", "x")):
        (tmp_path / link).symlink_to(target)
    assert list_files(tmp_path / "a", "**/*.png") == ["1.png", "up/b/2.png"]
    (tmp_path / "a/up").unlink()
    assert list_files(tmp_path, "**/*.png") == ["a/1.png", "b/2.png"]
    assert list_files(tmp_path, "**") == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize(
    ("glob", "files"),
    [
        ("*", ["a.PNG"]),
        ("*.png", ["a.PNG"]),
        ("b/*.png", ["b/b.png"]),
        ("b/**/*.png", ["b/b.png", "b/c/d.png"]),
        ("./b//c/*", ["b/c/d.png"]),
        ("?/c/[!x]*.png", ["b/c/d.png"]),
        ("**/c/**/*", ["b/c/d.png"]),
        ("**/.h/*.png", [".h/h.png"]),
        ("b/../a*", ["a.PNG"]),
    ],
)
def test_globs_choose_as_in_a_shell_but_for_endings_in_upper_case(tmp_path, glob, files):
    touch(tmp_path, "a.PNG", "b/b.png", "b/c/d.png", "b/c/.x.png", ".h/h.png")
    assert list_files(tmp_path, glob) == files


def test_an_ending_in_upper_case_matches_the_pattern_too(tmp_path):
    touch(tmp_path, "A.PNG", "b.png")
    table = index_files(tmp_path, glob="*.png", pattern=r"(?P<image_id>.+)\.png")
    assert table[["file", "image_id"]].to_numpy().tolist() == [["A.PNG", "A"], ["b.png", "b"]]


@pytest.mark.fault(
    scenario="file name that is not UTF-8",
    command="kedro run --pipeline data_processing",
    outcome="a finding of this file alone",
    review="data 16",
)
def test_a_name_that_is_not_text_is_a_problem_of_its_file_alone(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / os.fsdecode(b"bild_\xe4.png")).touch()
    table = index_files(tmp_path, glob="*", pattern=r"(?P<image_id>.+)\.png")
    assert table["file"].tolist() == ["a.png", r"bild_\xe4.png"]
    assert table["image_id"].isna().tolist() == [False, True]
    assert table["problem"][1] == "its name is not valid UTF-8, perhaps Latin-1; rename the file"
    assert table["problem"].isna()[0]
    assert list_files(tmp_path, "*") == ["a.png", r"bild_\xe4.png"]


def test_ids_are_composed_and_without_outer_blanks_as_in_tables(tmp_path):
    (tmp_path / "o\u0308 1 .png").touch()
    found = index_files(tmp_path, glob="*", pattern="(?P<image_id>\u00f6.+)\\.png")
    assert found["image_id"].tolist() == ["\u00f6 1"]
    assert as_text(pd.Series(["o\u0308 1 "])).tolist() == ["\u00f6 1"]


def test_each_page_is_an_image(tmp_path):
    pages = np.arange(18, dtype=np.uint8).reshape(3, 2, 3)
    tifffile.imwrite(tmp_path / "s.TIF", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "t.tif", pages[0])
    (tmp_path / "u.tif").write_bytes(b"no image")
    pattern = r"(?P<series>\w)\.tif(\?page=(?P<frame>\d+))?"
    table = index_files(tmp_path, glob="*.tif", pattern=pattern, columns={"image_id": "{series}"}, pages=True)
    names = ["s.TIF?page=1", "s.TIF?page=2", "s.TIF?page=3", "t.tif", "u.tif"]
    assert table["file"].tolist() == names
    assert table["series"].tolist() == ["s", "s", "s", "t", "u"]
    assert table["frame"].fillna(0).tolist() == [1, 2, 3, 0, 0]
    assert read_image(table["path"][1]).tolist() == pages[1].tolist()
