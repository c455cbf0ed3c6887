import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.exploration import tables as ex


def table_of(**columns) -> pd.DataFrame:
    """Four images of 10 x 20 pixels in two series, the first class large and rare."""
    given = {
        "image_id": ["a", "b", "c", "d"],
        "group": ["g1", "g1", "g2", "g2"],
        "series": ["g1_day3", "g1_day3", "g2_day10", "g2_day10"],
        "frame": [5, 2, 1, 9],
        "height": 10,
        "width": 20,
        "intensity_max": [255, 255, 100, 100],
        "area_box": [0, 100, 0, 0],
        "objects_box": [0, 2, 0, 0],
        "area_disc": [20, 10, 0, 40],
        "objects_disc": [1, 1, 0, 3],
        "split": ["train", "train", "test", "test"],
        "day": [3.0, 3.0, 10.0, 10.0],
    }
    return pd.DataFrame({**given, **columns})


def manifest_of(number: int, **columns) -> pd.DataFrame:
    """Train images of four groups in turn; every tenth shows the rare class, every third the common one."""
    index = np.arange(number)
    given = {
        "image_id": [f"im{one:02d}" for one in index],
        "group": [f"g{one % 4}" for one in index],
        "series": [f"s{one % 2}" for one in index],
        "frame": index[::-1],
        "area_rare": 9 * (index % 10 == 0),
        "area_common": 50 * (index % 3 == 0),
        "mask_rare": "",
        "mask_common": "",
        "split": "train",
    }
    return pd.DataFrame({**given, **columns})


def test_the_image_table_has_numbers_and_days_but_no_masks(manifest):
    dated = manifest.assign(series=["case1_day7"] * 10 + ["case2"] * 6)
    table = ex.image_table(dated, day_pattern=r"day(?P<day>\d+)")
    assert not [name for name in table if name.startswith("mask_")]
    assert not {"ignore", "path", "file", "content_hash"} & set(table)
    assert {"image_id", "height", "area_box", "objects_disc", "split"} <= set(table)
    assert table["day"].tolist()[:10] == [7] * 10
    assert table["day"].isna().sum() == 6
    assert ex.image_table(manifest, day_pattern=None)["day"].isna().all()
    assert ex.measured_classes(table) == ["box", "disc"]


def test_presence_and_area_by_hand():
    table = table_of()
    assert ex.presence(table)["disc"].tolist() == [True, True, False, True]
    assert ex.area_percent(table)["disc"].tolist() == [10, 5, 0, 20]
    assert ex.area_percent(table)["box"].tolist() == [0, 50, 0, 0]


def test_of_many_classes_the_most_frequent_are_kept_in_channel_order():
    table = table_of(area_dot=[1, 1, 1, 1], objects_dot=1)
    assert ex.top_classes(table, 3) == (["box", "disc", "dot"], "")
    names, note = ex.top_classes(table, 2)
    assert names == ["disc", "dot"]
    assert note == "the 2 most frequent of 3 classes; the other 1 occur 1 times in total"


def test_classes_seen_together_by_hand():
    together = ex.count_cooccurrence(table_of())
    assert together.to_numpy().tolist() == [[1, 1], [1, 3]]
    assert list(together) == list(together.index) == ["box", "disc"]


def test_frames_are_ranked_in_their_series():
    """Series of 2 frames are cut in 2 parts; frame 2 comes before 5, and 1 before 9."""
    parts = ex.classes_along_series(table_of())
    assert parts.columns.tolist() == [0, 1]
    assert parts.loc["box"].tolist() == [50, 0]
    assert parts.loc["disc"].tolist() == [50, 100]


def test_long_series_have_twenty_parts():
    table = table_of().loc[[1] * 50].assign(frame=range(50), series="s")
    assert ex.classes_along_series(table).shape == (2, 20)


def test_days_by_hand():
    days = ex.classes_by_day(table_of())
    assert days.columns.tolist() == [3, 10]
    assert days.loc["disc"].tolist() == [100, 50]
    assert ex.classes_by_day(table_of(day=np.nan)).shape == (2, 0)


def test_random_rows_are_bounded_and_repeat():
    manifest = manifest_of(40)
    rows = ex.draw_random_rows(manifest, number=7, seed=1)
    assert len(rows) == 7
    assert rows.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(rows, ex.draw_random_rows(manifest, number=7, seed=1))
    assert len(ex.draw_random_rows(manifest, number=100, seed=1)) == 40


def pick(manifest, **settings):
    given = {"number": 6, "selection": "stratified", "image_ids": [], "seed": 3, **settings}
    return ex.pick_samples(manifest, **given)


def test_a_stratified_sample_shows_every_class_nothing_and_every_group():
    rows = pick(manifest_of(40))
    assert len(rows) == rows["image_id"].nunique() == 6
    assert (rows["area_rare"] > 0).any()
    assert (rows["area_common"] > 0).any()
    assert ((rows["area_rare"] == 0) & (rows["area_common"] == 0)).any()
    assert rows["group"].nunique() == 4


def test_empty_images_do_not_fill_a_stratified_sample():
    rows = pick(manifest_of(40))
    empty = (rows["area_rare"] == 0) & (rows["area_common"] == 0)
    assert empty.sum() == 1
    assert not empty[0]
    only = pick(manifest_of(8, area_rare=0, area_common=0))
    assert len(only) == 6


def test_named_samples_come_first_and_of_any_split():
    manifest = manifest_of(20, split=["train"] * 10 + ["test"] * 10)
    rows = pick(manifest, image_ids=["im15", "im02"], selection="random")
    assert rows["image_id"].tolist()[:2] == ["im15", "im02"]
    assert rows["split"].tolist() == ["test"] + ["train"] * 5
    assert rows["image_id"].nunique() == 6


def test_a_sample_is_no_larger_than_the_data():
    assert len(pick(manifest_of(3))) == 3
    assert len(pick(manifest_of(3), image_ids=["im01", "im02"], number=1)) == 2


def test_samples_depend_on_the_seed_alone():
    manifest = manifest_of(40)
    for selection in ("stratified", "random"):
        first = pick(manifest, selection=selection)
        pd.testing.assert_frame_equal(first, pick(manifest, selection=selection))
        assert first["image_id"].tolist() != pick(manifest, selection=selection, seed=4)["image_id"].tolist()


def test_an_unknown_sample_is_told_with_its_like():
    with pytest.raises(ValueError, match=r"no image im2, which `eda.sample_ids` names; similar names: im"):
        pick(manifest_of(30), image_ids=["im01", "im2"])


def test_the_series_with_most_annotation_is_taken_in_order():
    manifest = manifest_of(20)  # series s0 has all that is annotated
    rows = ex.pick_series(manifest, series=None, max_frames=60)
    assert set(rows["series"]) == {"s0"}
    assert rows["frame"].tolist() == list(range(1, 20, 2))


def test_a_named_series_is_thinned_from_its_first_to_its_last_frame():
    rows = ex.pick_series(manifest_of(20), series="s1", max_frames=3)
    assert rows["series"].tolist() == ["s1"] * 3
    assert rows["frame"].tolist() == [0, 8, 18]


def test_an_unknown_series_is_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"no series s7, which `eda.animation.series` names; there are 2, such as s"):
        ex.pick_series(manifest_of(20), series="s7", max_frames=3)


def splits_of(train, val, **columns):
    number = len(train) + len(val)
    return pd.DataFrame(
        {
            "height": 10,
            "width": 10,
            "intensity_max": 9,
            "area_box": [*train, *val],
            "objects_box": 1,
            "split": ["train"] * len(train) + ["val"] * len(val),
            "image_id": [str(index) for index in range(number)],
            **columns,
        }
    )


def test_the_distance_of_splits_by_hand():
    """Areas 1 to 5 against 4 to 8: up to 3 lie three of five, and none."""
    report = ex.compare_splits(splits_of([1, 2, 3, 4, 5], [4, 5, 6, 7, 8]))
    first = report.iloc[0]
    assert (first["quantity"], first["class"], first["between"]) == ("area, if present", "box", "train and val")
    assert first["distance"] == pytest.approx(0.6)
    assert (first["train"], first["val"]) == (3, 6)
    assert (report["distance"].iloc[1:] == 0).all()
    assert ex.describe_difference(report) == (
        "box: mean area, if present (% of image): train 3, val 6 (KS distance 0.60)"
    )


def test_images_without_mask_are_compared():
    report = ex.compare_splits(splits_of([5, 5, 5, 5, 0], [0, 0, 0, 0, 0]))
    of_images = report.set_index("quantity").loc["images without a mask"]
    assert (of_images["train"], of_images["val"]) == (20, 100)
    assert of_images["distance"] == pytest.approx(0.8)
    never = report[report["quantity"] == "area, if present"].iloc[0]
    assert np.isnan(never["val"])
    assert np.isnan(never["distance"])
    assert report["distance"].iloc[0] == pytest.approx(0.8)


def test_splits_that_do_not_differ_and_splits_too_small_to_tell():
    assert ex.describe_difference(ex.compare_splits(splits_of([3] * 5, [3] * 5))) == "none"
    few = ex.describe_difference(ex.compare_splits(splits_of([3] * 5, [9] * 4)))
    assert few == "unknown, because fewer than two splits have 5 images"


def test_tables_are_left_as_they_were():
    table, before = table_of(), table_of()
    for function in (ex.presence, ex.area_percent, ex.classes_along_series, ex.classes_by_day, ex.compare_splits):
        function(table)
    pd.testing.assert_frame_equal(table, before)
