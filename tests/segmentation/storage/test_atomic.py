import pytest

from seg_pipeline.segmentation.storage.atomic import replacing


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
