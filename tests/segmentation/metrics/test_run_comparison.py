from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from seg_pipeline.segmentation.metrics.run_comparison import (
    ALL,
    COLUMNS,
    IMAGE_SCORES,
    MANIFEST,
    PREDICTIONS,
    describe,
    no_pairs,
    pair_scores,
    read_predictions,
    read_run,
    summarise,
)

ROOT = Path(__file__).parents[3]
IDS = ["a1", "a2", "b1", "b2"]
NAN = float("nan")


def manifest_of(**changes):
    """Four images of two groups with made-up masks."""
    table = pd.DataFrame(
        {"image_id": IDS, "content_hash": ["h1", "h2", "h3", "h4"], "ignore": "", "mask_box": "1 2", "mask_disc": "9 1"}
    )
    return table.assign(**changes)


def scores_of(box, disc):
    """Dice of the four images, class by class."""
    groups = ["a", "a", "b", "b"]
    parts = [
        pd.DataFrame({"image_id": IDS, "group": groups, "class": name, "dice": dice})
        for name, dice in (("box", box), ("disc", disc))
    ]
    return pd.concat(parts, ignore_index=True)


MINE = scores_of([0.9, 0.8, 0.7, NAN], [0.4, NAN, 0.4, 0.4])
OTHER = scores_of([0.7, 0.8, 0.3, 0.0], [0.6, NAN, 0.6, 0.6])


def pairs():
    return pair_scores(manifest_of(), MINE, manifest_of(), OTHER)


def test_each_image_is_compared_with_itself():
    found = pairs()
    assert list(found) == list(COLUMNS) == list(no_pairs())
    assert found["class"].tolist() == ["box"] * 4 + ["disc"] * 3  # both are silent on a2's disc: no pair
    np.testing.assert_allclose(found["difference"], [0.2, 0, 0.4, 1.0, -0.2, -0.2, -0.2])


def test_rightly_predicting_nothing_beats_a_false_find():
    row = pairs().set_index(["image_id", "class"]).loc[("b2", "box")]
    assert (row["dice"], row["other_dice"]) == (1, 0)


def test_the_summary_by_hand():
    table = summarise(pairs(), seed=1).set_index("class")
    assert list(table.index) == [ALL, "box", "disc"]
    box, disc, every = table.loc["box"], table.loc["disc"], table.loc[ALL]
    assert box["difference"] == pytest.approx((0.2 + 0 + 0.4 + 1.0) / 4)
    assert every["difference"] == pytest.approx((0.4 - 0.2) / 2)  # of the classes' means, not of the pairs
    assert (box["dice"], box["other_dice"]) == pytest.approx((0.85, 0.45))
    assert tuple(box[["num_images", "num_groups", "better", "worse", "equal"]]) == (4, 2, 3, 0, 1)
    # Of two groups a draw holds a twice (mean 0.1), b twice (0.7), or both (0.4): 2.5 % lie in the outer two.
    assert (box["low"], box["high"]) == pytest.approx((0.1, 0.7))
    assert (disc["low"], disc["high"]) == pytest.approx((-0.2, -0.2))
    assert list(table["verdict"]) == ["no difference shown", "better", "worse"]
    assert (every["low"], every["high"]) == pytest.approx((-0.05, 0.25))


def test_the_verdict_in_words():
    summary = summarise(pairs(), seed=1)
    assert describe(summary.iloc[[1]]) == (
        "This run is better: Dice 0.850 against 0.450, difference +0.400 (95 % interval +0.100 to +0.700, 4 images of "
        "2 groups). With so few groups, the interval is rough."
    )
    assert describe(summary.iloc[[2]]).startswith("This run is worse: Dice 0.400 against 0.600, difference -0.200")


def test_a_run_beside_itself_shows_no_difference():
    same = summarise(pair_scores(manifest_of(), MINE, manifest_of(), MINE), seed=1)
    assert set(same["verdict"]) == {"no difference shown"}
    assert describe(same).startswith("No significant difference: the interval contains 0: Dice")


def test_one_group_gives_no_interval():
    one = pairs().assign(group="a")
    summary = summarise(one, seed=1)
    assert summary[["low", "high"]].isna().all(axis=None)
    assert describe(summary).startswith("Images of one group do not show which run is better: Dice")


@pytest.mark.parametrize(
    ("other_manifest", "other_scores", "text"),
    [
        (manifest_of(), OTHER[OTHER["image_id"] != "a2"], r"1 were scored by only one \(a2\); .* same split"),
        (manifest_of(content_hash=["h1", "x", "h3", "h4"]), OTHER, r"truth differ .* in 1 of 4 images \(a2\)"),
        (manifest_of(mask_box=["1 2", "1 2", "2 2", "2 2"]), OTHER, r"truth differ .* in 2 of 4 images \(b1, b2\)"),
        (
            manifest_of().rename(columns={"mask_disc": "mask_ring"}),
            OTHER,
            r"classes \['box', 'ring'\], this one \['box', 'disc'\]",
        ),
    ],
)
def test_runs_that_cannot_be_compared(other_manifest, other_scores, text):
    with pytest.raises(ValueError, match=text):
        pair_scores(manifest_of(), MINE, other_manifest, other_scores)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*manifest.parquet and no .*; set `reporting.compare_with`"):
        read_run(tmp_path)


def test_the_tables_lie_where_the_catalog_says():
    catalog = yaml.safe_load((ROOT / "conf/base/catalog.yml").read_text())
    assert catalog["manifest"]["filepath"].endswith(f"/{MANIFEST}")
    assert catalog["image_scores"]["dataset"]["filepath"].endswith(f"/{IMAGE_SCORES}")


def test_predictions_of_the_other_run_are_read_if_they_cover_the_images(tmp_path):
    scores = scores_of([0.5] * 4, [0.5] * 4)
    assert read_predictions(tmp_path, scores) is None
    file = tmp_path / PREDICTIONS
    file.parent.mkdir()
    manifest_of().to_parquet(file)
    assert read_predictions(tmp_path, scores)["image_id"].tolist() == IDS
    manifest_of().head(3).to_parquet(file)
    assert read_predictions(tmp_path, scores) is None
