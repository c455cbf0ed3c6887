import pandas as pd
import pytest

from seg_pipeline.segmentation.splits import assign_splits, check_leaks, missing_classes

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def images(groups, areas, hashes=None):
    ids = [f"i{number:03d}" for number in range(len(groups))]
    return pd.DataFrame(
        {
            "image_id": ids,
            "group": groups,
            "mask_a": "",
            "area_a": areas,
            "intensity_min": 0,
            "intensity_max": 9,
            "content_hash": hashes or ids,
        }
    )


def shares_of(splits):
    return splits["split"].value_counts(normalize=True).to_dict()


def test_groups_stay_whole_and_shares_are_met():
    table = images([f"g{n // 5:02d}" for n in range(200)], [n % 3 for n in range(200)])
    splits = assign_splits(table, shares=SHARES, grouped=True, stratified=True, seed=1)
    assert splits.groupby("group")["split"].nunique().max() == 1
    assert shares_of(splits) == {"train": 0.7, "val": 0.15, "test": 0.15}
    assert check_leaks(table, splits, allowed=False).empty


def test_a_rare_class_is_spread_by_stratifying():
    rare = [int(n // 4 in (3, 11, 19)) for n in range(80)]  # 3 of 20 groups show the class
    table = images([f"g{n // 4:02d}" for n in range(80)], rare)
    for seed in range(5):
        splits = assign_splits(table, shares=SHARES, grouped=True, stratified=True, seed=seed)
        manifest = table.assign(split=splits["split"])
        assert manifest[manifest["area_a"] > 0]["split"].nunique() == 3


def test_three_groups_of_unequal_size_fill_three_splits_largest_first():
    table = images(["a"] * 20 + ["b"] * 112 + ["c"] * 20, [1] * 152)
    splits = assign_splits(table, shares=SHARES, grouped=True, stratified=True, seed=17)
    by_group = splits.groupby("group")["split"].first().to_dict()
    assert by_group["b"] == "train"
    assert {by_group["a"], by_group["c"]} == {"val", "test"}


def test_the_same_seed_gives_the_same_splits_whatever_the_row_order():
    table = images([f"g{n // 3}" for n in range(60)], range(60))
    options = {"shares": SHARES, "grouped": True, "stratified": True}
    one = assign_splits(table, seed=3, **options)
    other = assign_splits(table.sample(frac=1, random_state=0), seed=3, **options).sort_values("image_id")
    pd.testing.assert_frame_equal(one, other.reset_index(drop=True))
    assert not one.equals(assign_splits(table, seed=4, **options))


def test_without_groups_every_image_is_on_its_own():
    table = images(["g"] * 40, [1] * 40)
    splits = assign_splits(table, shares=SHARES, grouped=False, stratified=False, seed=0)
    assert shares_of(splits) == {"train": 0.7, "val": 0.15, "test": 0.15}
    with pytest.raises(ValueError, match=r"the splits leak: group g is in test and train and val \(i000, i001, i002\)"):
        check_leaks(table, splits, allowed=False)
    assert check_leaks(table, splits, allowed=True)["rule"].tolist() == ["leak_between_splits"]


def test_two_groups_cannot_fill_three_splits():
    with pytest.raises(ValueError, match=r"2 groups \(a, b\) cannot fill the splits train, val, test"):
        assign_splits(images(["a", "a", "b"], [1, 1, 1]), shares=SHARES, grouped=True, stratified=True, seed=0)


def test_equal_pixels_in_two_splits_leak_but_blank_images_do_not():
    table = images(["a", "b"], [1, 1], hashes=["same", "same"])
    splits = pd.DataFrame({"image_id": ["i000", "i001"], "group": ["a", "b"], "split": ["train", "test"]})
    with pytest.raises(ValueError, match="content_hash same is in test and train"):
        check_leaks(table, splits, allowed=False)
    assert check_leaks(table.assign(intensity_max=0), splits, allowed=False).empty


def test_a_class_missing_from_a_split_is_a_finding():
    table = images(["a", "b"], [4, 0]).assign(split=["train", "test"])
    assert missing_classes(table)["reason"].tolist() == [
        "none of the 1 test images shows a; its scores there are undefined"
    ]
