import tracemalloc

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest.split_checks import check_leaks, fewer_folds, missing_classes, split_table
from seg_pipeline.segmentation.manifest.splits import _deal, _totals, assign_splits

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def images(groups, areas, hashes=None):
    ids = [f"i{number:03d}" for number in range(len(groups))]
    return pd.DataFrame(
        {
            "image_id": ids,
            "group": groups,
            "series": groups,
            "frame": range(len(groups)),
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
    leaks = check_leaks(table, splits, allowed=True)
    assert leaks["rule"].tolist() == ["leak_between_splits"] * 2
    assert leaks["reason"][1].startswith("group g is in fold 0 and fold 1 and fold 2 and fold 3 and fold 4 (")


def test_two_groups_cannot_fill_three_splits():
    text = (
        r"2 groups \(a, b\) cannot fill the splits train, val, test, as each needs one. Add data, use fewer splits "
        r"\(such as `split.shares.test: 0`\), or cross-validate \(`val: 0` and `training.folds`\), or split single "
        r"images \(`split.grouped: false` and `allow_leakage: true`; the scores are then too good"
    )
    with pytest.raises(ValueError, match=text):
        draw(images(["a", "a", "b"], [1, 1, 1]))
    with pytest.raises(ValueError, match=r"2 images \(i000, i001\) cannot fill .*`training.folds`\)$"):
        draw(images(["a", "b"], [1, 1]), grouped=False)
    with pytest.raises(ValueError, match=r"2 images \(i000, i001\) cannot fill"):
        draw(images(["a", "b"], [1, 1]), method="time")


SIZES = [[4] * 20, [5] * 20, [100, 1, 1], [1, 1, 100], [30, 20, 10, 5, 40], [7, 1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_no_split_and_no_fold_is_empty(sizes, stratified):
    table = images(np.repeat([f"g{n}" for n in range(len(sizes))], sizes).tolist(), [1] * sum(sizes))
    for seed in range(1 if stratified else 5):
        splits = draw(table, seed=seed, stratified=stratified)
        assert set(splits["split"]) == {"train", "val", "test"}
        assert splits.groupby("group")["split"].nunique().max() == 1
        made = splits.loc[splits["fold"] >= 0, "fold"]
        assert sorted(made.unique()) == list(range(min(5, splits.loc[made.index, "group"].nunique())))


def test_ten_thousand_random_group_sizes_leave_no_split_empty():
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        number = int(rng.integers(3, 11))
        sizes = rng.integers(1, rng.choice([3, 30, 1000]), number)
        wanted = rng.dirichlet([4, 1, 1][: rng.integers(2, 4)])
        split = _deal(sizes, wanted, rng)
        got = np.bincount(split, weights=sizes, minlength=len(wanted)) / sizes.sum()
        assert (got > 0).all()
        assert len(split) == number  # each unit is in one split: no leak
        if (wanted * sizes.sum() >= sizes.max()).all():  # no unit is larger than a split
            assert np.abs(got - wanted).max() <= sizes.max() / sizes.sum() + 1e-9


@pytest.mark.slow
def test_folds_are_as_even_as_those_of_scikit_learn_by_its_own_measure():
    """The mean over classes of the standard deviation over folds of the class's share, which it minimises greedily."""

    def spread(labels, folds):
        shares = [[(labels[folds == fold] == one).sum() / (labels == one).sum() for fold in range(3)] for one in (0, 1)]
        return np.std(shares, axis=1).mean()

    sklearn = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(12):
        sizes = rng.integers(1, rng.choice([5, 50]), int(rng.integers(4, 20))) + 1
        group = np.repeat(np.arange(len(sizes)), sizes)
        labels = (rng.random(sizes.sum()) < rng.beta(0.7, 0.7, len(sizes))[group]).astype(int)
        if np.bincount(labels, minlength=2).min() < 3:
            continue
        table = images([f"g{one:02d}" for one in group], labels)
        ours.append(spread(labels, draw(table, shares={"train": 1.0, "val": 0.0, "test": 0.0}, folds=3)["fold"]))
        folds = np.empty(len(labels))
        cut = sklearn.StratifiedGroupKFold(3, shuffle=True, random_state=0).split(labels, labels, group)
        for fold, (_, rows) in enumerate(cut):
            folds[rows] = fold
        theirs.append(spread(labels, folds))
    assert np.mean(ours) <= np.mean(theirs)
    assert np.mean(np.array(ours) <= np.array(theirs) + 1e-9) >= 0.8


@pytest.mark.parametrize(("length", "number"), [(1, 40), (2, 20), (3, 1), (3, 20), (1, 3)])
def test_short_series_split_by_time_meet_the_shares_together(length, number):
    groups = [f"s{n:02d}" for n in np.repeat(range(number), length)]
    splits = draw(images(groups, [1] * len(groups)), method="time")
    for name, share in SHARES.items():
        assert (splits["split"] == name).sum() == pytest.approx(share * len(groups), abs=1.2)
        assert (splits["split"] == name).any()
    order = splits["split"].map({"train": 0, "val": 1, "test": 2})
    assert all(part.is_monotonic_increasing for _, part in order.groupby(splits["group"]))
    folds = splits.loc[splits["fold"] >= 0, "fold"]
    assert sorted(folds.unique()) == list(range(min(5, len(folds))))


def test_leave_one_group_out_makes_one_fold_per_group():
    table = images(["p2"] * 3 + ["p10"] * 2 + ["p1"] * 9 + ["p3"], [1] * 15)
    splits = draw(table, shares={"train": 0.8, "val": 0.2, "test": 0.0}, method="leave_one_group_out")
    assert splits.groupby("group")["fold"].unique().map(list).to_dict() == {
        "p1": [0],
        "p10": [1],
        "p2": [2],
        "p3": [3],
    }
    assert set(splits["split"]) == {"train", "val"}
    with pytest.raises(ValueError, match="needs 2 to 128 groups in train and val, found 1; use `draw`"):
        draw(images(["a", "a"], [1, 1]), shares={"train": 1.0, "val": 0.0, "test": 0.0}, method="leave_one_group_out")


@pytest.mark.parametrize("method", ["draw", "time", "leave_one_group_out"])
def test_splits_and_folds_of_the_file_names_are_kept(method):
    table = images(list("abcde"), [1] * 5).assign(
        split=["training", "test", "train", "Validation", "valid"], fold=["f2", "f1", "f10", "f1", "f2"]
    )
    splits = draw(table, method=method)
    assert splits["split"].tolist() == ["train", "test", "train", "val", "val"]
    assert splits["fold"].tolist() == [1, -1, 2, 0, 1]  # f1, f2, f10
    drawn = draw(table.drop(columns="split"))
    assert set(drawn["split"]) == {"train", "val", "test"}
    assert (drawn["fold"] >= 0).tolist() == (drawn["split"] != "test").tolist()


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            {"split": ["train", "dev"]},
            r"the group `split` of the file names holds the splits \['dev'\], expected train",
        ),
        ({"split": ["train", None]}, "the group `split` of the file names lacks 1 of the 2 images, such as i001"),
        (
            {"split": ["train", "test"]},
            "the group `split` of the file names puts no image into val; add some, or cross-validate "
            r"\(`split.shares.val: 0` and `training.folds`\), or let the splits be drawn",
        ),
        (
            {"split": ["train", "val"], "fold": ["1", None]},
            "the group `fold` of the file names gives 1 images no fold, such as i001; fix `pattern`",
        ),
    ],
)
def test_file_names_that_split_incompletely_are_refused(columns, text):
    with pytest.raises(ValueError, match=text):
        draw(images(["a", "b"], [1, 1]).assign(**columns))


def test_equal_pixels_in_two_splits_leak_but_blank_images_do_not():
    table = images(["a", "b"], [1, 1], hashes=["same", "same"])
    splits = pd.DataFrame({"image_id": ["i000", "i001"], "group": ["a", "b"], "split": ["train", "test"]}).assign(
        fold=[0, -1]
    )
    with pytest.raises(ValueError, match="content_hash same is in test and train"):
        check_leaks(table, splits, allowed=False)
    assert check_leaks(table.assign(intensity_max=0), splits, allowed=False).empty


def test_a_class_missing_from_a_split_is_a_finding():
    table = images(["a", "b"], [4, 0]).assign(split=["train", "test"])
    absent = "none of the 1 test images shows a; its scores there are undefined"
    assert missing_classes(table).equals(missing_classes(table, SHARES))
    assert missing_classes(table, SHARES)["reason"].tolist() == [
        "no image is in the val split; it gives no scores",
        absent,
    ]
    assert missing_classes(table, {"train": 0.8, "val": 0.0, "test": 0.2})["reason"].tolist() == [absent]


def draw(table, **options):
    return assign_splits(table, **{"shares": SHARES, "grouped": True, "stratified": True, "seed": 2, **options})


def test_folds_share_out_train_and_val_by_whole_groups_and_leave_test_alone():
    table = images([f"g{n // 5:02d}" for n in range(200)], [n % 3 for n in range(200)])
    splits = draw(table, folds=4)
    assert splits["fold"].dtype == np.int8
    assert ((splits["fold"] == -1) == (splits["split"] == "test")).all()
    rest = splits[splits["split"] != "test"]
    assert rest.groupby("group")["fold"].nunique().max() == 1
    counts = rest["fold"].value_counts().sort_index()
    assert counts.index.tolist() == [0, 1, 2, 3]
    assert sorted(counts) == [40, 40, 45, 45]  # 170 images: 34 groups of 5
    assert fewer_folds(splits, 4).empty


def test_a_rare_class_is_spread_over_the_folds_too():
    rare = [int(n // 4 in (3, 11, 19)) for n in range(80)]
    table = images([f"g{n // 4:02d}" for n in range(80)], rare)
    splits = draw(table, shares={"train": 1.0, "val": 0.0, "test": 0.0}, folds=3)
    assert sorted(splits.loc[np.array(rare, dtype=bool), "fold"].unique()) == [0, 1, 2]


def test_fewer_groups_than_folds_give_fewer_folds_and_a_finding():
    splits = draw(images(["a", "a", "b", "b", "c"], [1] * 5))
    assert sorted(splits["fold"].unique()) == [-1, 0, 1]  # three groups, one of them the test split
    found = fewer_folds(splits, 5)
    assert found["reason"].tolist() == ["2 folds instead of 5: train and val have too few groups"]


@pytest.mark.parametrize(
    ("shares", "names"),
    [
        ({"train": 1.0, "val": 0.0, "test": 0.0}, {"train"}),
        ({"train": 0.8, "val": 0.2, "test": 0.0}, {"train", "val"}),
        ({"train": 0.6, "val": 0.0, "test": 0.4}, {"train", "test"}),
    ],
)
@pytest.mark.parametrize("method", ["draw", "time"])
def test_a_share_of_zero_leaves_its_split_out(shares, names, method):
    table = images([f"g{n // 10}" for n in range(50)], [1] * 50)
    splits = draw(table, shares=shares, method=method)
    assert set(splits["split"]) == names
    assert shares_of(splits) == {name: pytest.approx(shares[name]) for name in names}


def test_time_cuts_each_series_in_its_order():
    table = images(["b"] * 10 + ["a"] * 20, [1] * 30).sample(frac=1, random_state=1)
    splits = draw(table, shares={"train": 0.6, "val": 0.2, "test": 0.2}, method="time", folds=2)
    told = splits.sort_values("image_id")
    train, val, test = ["train"], ["val"], ["test"]
    assert told["split"].tolist() == train * 6 + val * 2 + test * 2 + train * 12 + val * 4 + test * 4
    assert told["fold"].tolist() == [0] * 4 + [1] * 4 + [-1] * 2 + [0] * 8 + [1] * 8 + [-1] * 4
    with pytest.raises(ValueError, match="the splits leak: group a is in test and train and val"):
        check_leaks(table, splits, allowed=False)
    assert set(check_leaks(table, splits, allowed=False, groups_allowed=True)["action"]) == {"flagged"}


def test_a_given_table_is_followed():
    table = images(["a", "a", "b", "c"], [1] * 4)
    given = pd.DataFrame(
        {"image_id": ["i003", "i002", "i001", "i000", "other"], "split": ["test", "val", *["train"] * 3]}
    )
    splits = draw(table, method="table", given=given)
    assert splits["split"].tolist() == ["train", "train", "val", "test"]
    assert splits["fold"].tolist()[3] == -1
    assert set(splits["fold"][:3]) == {0, 1}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "needs the table `predefined_splits` with the columns image_id and split, but there is none"),
        ({"id": ["i000"], "split": ["train"]}, r"but it has the columns \['id', 'split'\]"),
        ({"image_id": ["i000", "i001"], "split": ["train", "dev"]}, r"holds the splits \['dev'\], expected train, val"),
        ({"image_id": ["i000"] * 2, "split": ["train", "val"]}, "puts 1 images into two splits, such as i000"),
        ({"image_id": ["i000"], "split": ["train"]}, "lacks 1 of the 2 images, such as i001"),
    ],
)
def test_a_given_table_that_does_not_fit_is_refused(given, text):
    with pytest.raises(ValueError, match=text):
        draw(images(["a", "b"], [1, 1]), method="table", given=None if given is None else pd.DataFrame(given))


def test_equal_pixels_in_two_folds_leak_as_well():
    table = images(["a", "b", "c"], [1] * 3, hashes=["same", "same", "other"])
    splits = pd.DataFrame({"image_id": table["image_id"], "split": "train", "fold": [0, 1, 1]})
    with pytest.raises(ValueError, match=r"content_hash same is in fold 0 and fold 1 \(i000, i001\)"):
        check_leaks(table, splits, allowed=False)


def test_the_split_table_by_hand():
    table = images(["a", "a", "b", "c"], [5, 0, 3, 0]).assign(split=["train", "train", "val", "train"])
    assert split_table(table).to_dict("list") == {
        "split": ["train", "val", "test"],
        "images": [3, 1, 0],
        "groups": [2, 1, 0],
        "share": [0.75, 0.25, 0.0],
        "has_a": [1 / 3, 1.0, 0.0],
    }


def test_what_groups_add_to_a_split_by_hand():
    table = images(["a", "b", "a", "a"], [5, 0, 0, 7]).assign(mask_b="", area_b=[0, 0, 0, 2])
    totals = _totals(table, np.array([0, 1, 0, 0]), 2)
    assert totals.tolist() == [  # images with a, with b, area of a, of b, images, images without a mask
        [2, 1, 12, 2, 3, 1],
        [0, 0, 0, 0, 1, 1],
    ]


def test_splits_are_assigned_on_the_table_of_groups_with_little_memory_per_image():
    number = 20_000
    names = [f"g{index // 50}" for index in range(number)]
    table = images(names, 1).assign(**{f"{kind}_{name}": 1 for name in "bcdefgh" for kind in ("mask", "area")})
    tracemalloc.start()
    assign_splits(table, shares=SHARES, grouped=True, stratified=False, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250 * number  # 184 bytes per image; 398 per image when all quantities of each image were one table
