import os
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.inference.prefetch import Reader
from seg_pipeline.segmentation.inference.sources import find_images
from seg_pipeline.segmentation.settings.training import InputSettings


@pytest.fixture
def folder(tmp_path):
    for name in ("b/two.png", "b/one.PNG", "three.jpg", ".hidden/four.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 5), np.uint8))
    (tmp_path / "notes.txt").write_text("# a comment\nb/two.png\n\nthree.jpg\n")
    return tmp_path


def test_a_folder_gives_its_images_and_those_below(folder):
    table, num_skipped = find_images(folder)
    assert table["image_id"].tolist() == ["b/one", "b/two", "three"]
    assert table["file"].tolist() == ["b/one.PNG", "b/two.png", "three.jpg"]
    assert table["path"].tolist() == [str(folder / file) for file in table["file"]]
    assert num_skipped == 1  # notes.txt; hidden folders do not count


def test_equal_names_keep_their_endings(folder):
    cv2.imwrite(str(folder / "three.png"), np.zeros((4, 5), np.uint8))
    assert find_images(folder)[0]["image_id"].tolist() == ["b/one", "b/two", "three.jpg", "three.png"]


def test_a_glob_names_images_from_its_fixed_part_on(folder):
    table, _ = find_images(f"{folder}/**/t*.*")
    assert table["image_id"].tolist() == ["b/two", "three"]


def test_masks_of_an_earlier_prediction_are_no_images(folder):
    before = find_images(folder)
    (folder / "predicted/masks").mkdir(parents=True)
    for name in ("run.json", "images.jsonl", "masks/a.png"):
        (folder / "predicted" / name).touch()
    pd.testing.assert_frame_equal(find_images(folder)[0], before[0])
    assert find_images(folder)[1] == before[1]
    assert len(find_images(folder / "predicted/masks")[0]) == 1  # unless they are asked for


def test_an_image_alone(folder):
    assert find_images(folder / "b" / "two.png")[0]["image_id"].tolist() == ["two"]


def test_a_text_file_lists_paths_from_its_own_folder(folder):
    table, _ = find_images(folder / "notes.txt")
    assert table["path"].tolist() == [str(folder / "b/two.png"), str(folder / "three.jpg")]


def test_a_file_whose_name_starts_as_a_comment_does_is_an_image(folder):
    cv2.imwrite(str(folder / "#five.png"), np.zeros((4, 5), np.uint8))
    (folder / "notes.txt").write_text("#five.png\n#three.jpg\nb/two.png\n")
    table, _ = find_images(folder / "notes.txt")
    assert table["path"].tolist() == [str(folder / "#five.png"), str(folder / "b/two.png")]


def test_jpeg_2000_counts_as_an_image_as_in_a_data_set(folder):
    (folder / "b/six.jp2").touch()
    assert "b/six" in find_images(folder)[0]["image_id"].tolist()


@pytest.mark.parametrize("start", ["{folder}", "../{folder.name}"])
def test_equal_names_of_other_folders_are_told_apart_by_their_folders(folder, start, tmp_path_factory):
    cv2.imwrite(str(folder / "two.png"), np.zeros((4, 5), np.uint8))
    start = start.format(folder=folder)
    listed = tmp_path_factory.mktemp("lists") / "images.txt"
    listed.write_text(f"{start}/b/two.png\n{start}/two.png\n")
    table, _ = find_images(listed)
    assert table[["image_id", "file"]].to_numpy().tolist() == [["b/two", "b/two.png"], ["two", "two.png"]]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_keeps_ids_sizes_and_frames(folder, suffix):
    given = pd.DataFrame({"file": ["three.jpg"], "image_id": ["007"], "height": [4], "width": [5], "frame": [2]})
    path = folder / f"list.{suffix}"
    given.to_csv(path, index=False) if suffix == "csv" else given.to_parquet(path)
    (row,) = find_images(path)[0].to_dict("records")
    assert row == {
        "image_id": "007", "path": str(folder / "three.jpg"), "file": "three.jpg", "height": 4, "width": 5, "frame": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("name\nx.png\n", "has the columns name, expected `path` with the images' paths"),
        ("path\n\n", "lists no image"),
        ("path,image_id\na.png,a\n,b\n", "row 2 has no path"),
        ("path,image_id\na.png,a\nb.png,a\n", "1 images share their image_id with another, such as 'a'"),
        ("path,image_id\na.png,../a\n", "image_id '../a' cannot be used as a file name"),
        ("path,image_id\na.png,/a\n", "image_id '/a' cannot be used as a file name"),
    ],
)
def test_a_list_that_cannot_serve_is_told_why(tmp_path, content, text):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'list.csv'}: {text}")):
        find_images(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"path": ["a.png"], "image_id": [None]}, "row 1 has no image_id"),
        ({"path": [3]}, "path in row 1 is not text, expected a path"),
        ({"path": ["a.png"], "height": ["tall"]}, "the column height must hold numbers"),
    ],
)
def test_a_table_with_other_kinds_of_values_is_told(tmp_path, values, text):
    pd.DataFrame(values).to_parquet(tmp_path / "list.parquet")
    with pytest.raises(ValueError, match=rf"list\.parquet: {text}"):
        find_images(tmp_path / "list.parquet")


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such file or folder; pass a folder, an image, a glob in quotes"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ValueError, match=r"no image among its 1 files, such as notes.md; image files end in \.bmp"):
        find_images(tmp_path)
    (tmp_path / "scan.nii.gz").write_text("x")
    with pytest.raises(ValueError, match=r"in a list; of volumes, write the slices as 16-bit PNG or TIFF$"):
        find_images(tmp_path)
    (tmp_path / "broken.parquet").write_text("x")
    with pytest.raises(ValueError, match=r"broken.parquet: cannot be read as a table \("):
        find_images(tmp_path / "broken.parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "\ufeffthree.jpg\r\nb/two.png\r\n"),
        ("list.csv", "\ufeffpath,frame\r\nthree.jpg,1\r\nb/two.png,2\r\n"),
    ],
)
def test_a_list_may_begin_with_a_byte_order_mark(folder, name, content):
    (folder / name).write_bytes(content.encode())
    assert find_images(folder / name)[0]["path"].tolist() == [str(folder / "b/two.png"), str(folder / "three.jpg")]


@pytest.mark.parametrize("ending", ["txt", "csv", "parquet"])
def test_a_list_and_its_images_may_be_at_addresses(tmp_path, ending):
    import fsspec

    paths = ["two/b.png", "../other/c.png", "memory://bucket/set/a.png"]
    text = {"txt": "\n".join(paths), "csv": "\n".join(["path", *paths])}
    pd.DataFrame({"path": paths}).to_parquet(tmp_path / "list.parquet")
    content = text[ending].encode() if ending in text else (tmp_path / "list.parquet").read_bytes()
    fsspec.filesystem("memory").pipe(f"/bucket/set/list.{ending}", content)
    far = "memory://bucket"
    found, _ = find_images(f"{far}/set/list.{ending}")
    assert found["path"].tolist() == [f"{far}/other/c.png", f"{far}/set/a.png", f"{far}/set/two/b.png"]
    assert found["image_id"].tolist() == ["other/c", "set/a", "set/two/b"]
    (tmp_path / "here.png").touch()
    (tmp_path / "list.txt").write_text(f"here.png\n{far}/set/a.png\n")
    assert find_images(tmp_path / "list.txt")[0]["path"].tolist() == [f"{far}/set/a.png", str(tmp_path / "here.png")]
    with pytest.raises(ValueError, match=rf"{far}/set/none\.{ending}: cannot be read"):
        find_images(f"{far}/set/none.{ending}")


def test_a_list_in_another_encoding_is_told(folder):
    (folder / "list.txt").write_bytes("bild_ä.png".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list\.txt: is not UTF-8; save the list as UTF-8 text"):
        find_images(folder / "list.txt")


def test_links_and_names_that_are_not_text(folder):
    (folder / "b/up").symlink_to(folder)
    (folder / os.fsdecode(b"b/bild_\xe4.gif")).touch()
    for given in (folder, f"{folder}/**/*"):
        table, _ = find_images(given)
        assert table["file"].tolist() == [r"b/bild_\xe4.gif", "b/one.PNG", "b/two.png", "three.jpg"]
        loaded = Reader(table, InputSettings()).load(0)
        assert loaded.finding.reason == "its name is not valid UTF-8, perhaps Latin-1; rename the file"
