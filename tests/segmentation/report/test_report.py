"""The report's content: the right numbers and words, whatever ran, however much there is."""

import base64
import copy
import hashlib
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from seg_pipeline.segmentation.metrics.aggregation import Aggregator
from seg_pipeline.segmentation.metrics.object_scores import ObjectCounts, count_objects, summary
from seg_pipeline.segmentation.metrics.run_comparison import pair_scores
from seg_pipeline.segmentation.report import Results, model_card, report_page
from seg_pipeline.segmentation.report.charts import chart_data
from seg_pipeline.segmentation.report.page import embedded
from seg_pipeline.segmentation.report.pictures import picture_data
from seg_pipeline.segmentation.report.run_report import MAX_ROWS
from seg_pipeline.segmentation.settings.figures import FigureSettings
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails


def page(results, *, phantom=False, other=None, **about):
    return report_page(results, ModelCardDetails(**about), phantom=phantom, images_per_gallery=2, other=other, seed=3)


def words(html):
    """The page's text in one line."""
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", re.sub("<(style|script)>.*?</.*?>", "", html, flags=re.DOTALL)))


def section(html, name):
    return re.search(f'<section id="{name}".*?</section>', html, re.DOTALL).group(0)


@pytest.fixture(scope="module")
def html(results):
    """The page of the results as they are."""
    return page(results)


def bare(results):
    """Only the data was processed."""
    return Results(manifest=results.manifest, findings=results.findings, run_command=results.run_command)


def test_nothing_in_the_page_asks_the_network_and_its_policy_forbids_it(results):
    html = page(results, data="<script>alert(1)</script>")
    assert set(re.findall(r"""(?:src|href)=["']((?!data:|#)[^"']*)""", html)) == {
        "data_set.html",
        "findings.html",
        "search.html",
    }
    assert not re.findall(r"url\(|@import|https?://", html)
    assert " style=" not in html
    assert "<script>alert" not in html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1).replace("&#39;", "'")
    for tag in ("style", "script"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL).group(1)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'" in policy


def test_main_numbers_stand_beside_how_they_were_taken(html):
    text = words(html)
    # shifted by 3: box 14 x 11 has 14 * 8 right of 154, so Dice 8 / 11
    assert "mean Dice 0.726 0.610 to 0.920" in text
    assert "test images 6 of 3 groups" in text
    assert "Aggregation: image; empty policy: skip; below each score its 95 % confidence interval." in text
    assert "box 5 0.727 0.627 to 0.777 0.571 0.471 to 0.621 0.875 0.800 to 0.900 2.2 1.5 to 3.0" in text
    assert "HD95 (mm)" in text
    assert "A missed object or a false positive scores 0 under every policy." in text


def test_volumes_and_the_competition_stand_beside_the_scores(results):
    volumes = {"mean_dice": 0.75, "num_series": 4, "classes": {"box": {"dice": 0.75}, "disc": {"dice": None}}}
    scores = results.test_scores | {"volumes": volumes, "competition": {"text": 0.5, "host_comment": 0.625}}
    text = words(section(page(replace(results, test_scores=scores)), "scores"))
    assert "Dice of 4 series as volumes: mean 0.750; box 0.750, disc undefined." in text
    assert "UW-Madison competition score, computed from its published rules: text 0.500, host_comment 0.625." in text


def test_calibration_and_flags_stand_beside_the_scores(results, html):
    text = words(section(html, "scores"))
    assert "Expected calibration error 0.0123 (before calibration 0.0456): average gap" in text
    flags = "Look at this: 1 of 2 images with a Dice below 0.8 are flagged, 1 missed; 2 false alarms."
    assert f"{flags} A person must look at 50 % of 6 images (0.25 to 0.75)." in text
    none = results.test_scores | {"review": results.test_scores["review"] | {"num_low": 0}}
    text = words(section(page(replace(results, test_scores=none)), "scores"))
    assert "50 % of 6 images (0.25 to 0.75) are flagged; no image has a Dice below 0.8, so there was nothing" in text


FEW = "which catches 90 % of 3 validation images with a Dice below 0.8; so few images make the limit rough."
NONE = "No limit for the flag look_at_this was chosen: there is no validation image with a Dice below 0.8."


@pytest.mark.parametrize(("low", "above", "said"), [(3, 0.25, FEW), (0, None, NONE)])
def test_the_choice_of_the_flag_is_said(results, low, above, said):
    review = {"score": "mean_entropy", "look_above": above, "num_low": low, "dice_below": 0.8, "catch": 0.9}
    given = {"settings": {"temperatures": [1.5, 2.25]}, "classes": ["bowel", "stomach"], "gains": [], "rule": "",
             "resampled": "", "num_images": 9}  # fmt: skip
    text = words(section(page(replace(results, postprocessing=given | {"review": review})), "choices"))
    assert "Logits are divided by 1.50 (bowel), 2.25 (stomach), so that probabilities are calibrated." in text
    assert said in text


def test_every_part_that_did_not_run_is_named_with_its_command(results):
    text = words(page(bare(results)))
    for what, pipeline in (("searched", "hparam_search"), ("trained", "training"), ("scored", "evaluation")):
        assert f"kedro run --pipeline {pipeline} --env folders --params seed=3" in text, what
    assert "In short" not in text
    assert "No training history." in text
    assert "train 8 4 50.0 % 75 % 75 %" in text
    assert not bare(results).best_epoch()


def test_nothing_is_missing_after_a_whole_run(results, html):
    assert results.missing() == []
    assert 'class="warning"' not in html


def test_search_says_what_it_foresaw_and_what_came(html):
    assert "3 epochs in 1.5 minutes. The best is epoch 2: Dice 0.700 on the validation split" in words(
        section(html, "training")
    )
    text = words(section(html, "search"))
    assert (
        "Chosen: the best of 4 rates. The best trial had validation Dice 0.550 after 2 epochs. The final training "
        "reached" in text
    )
    assert "optimizer.learning_rate 0.003 used optimizer.weight_decay 0.5 not used" in text


def test_figures_have_two_pixels_per_pixel_of_the_page_and_the_size_of_their_text():
    narrow, broad = (io.BytesIO() for _ in range(2))
    for stream, inches in ((narrow, 7), (broad, 8)):
        Figure(figsize=(inches, 2)).savefig(stream, dpi=FigureSettings().dpi)
    chart, sheet = embedded("class_scores", narrow.getvalue()), embedded("sample_sheet", broad.getvalue())
    assert (chart.width, chart.is_broad, sheet.width, sheet.is_broad) == (672, False, 768, True)
    assert chart.source.startswith("data:image/png")
    assert sheet.source.startswith("data:image/jpeg")
    with Image.open(io.BytesIO(base64.b64decode(chart.source.split(",")[1]))) as opened:
        assert opened.width == 2 * chart.width


def test_a_short_training_took_seconds(results):
    quick = replace(results, training_history=results.training_history.assign(seconds=0.7))
    assert "3 epochs in 2 s. The best" in words(section(page(quick), "training"))


def test_what_was_kept_of_postprocessing_is_said(results):
    gain = {"value": 0.35, "dice_before": 0.5, "dice_after": 0.6, "gain_interval": [0.01, 0.2], "kept": True}
    tried = [
        gain | {"step": "thresholds", "class": "box"},
        gain | {"step": "fill_holes", "class": "box", "kept": False},
        gain | {"step": "fill_holes", "class": "disc", "value": True},
    ]
    chosen = {
        "settings": {},
        "classes": ["box", "disc"],
        "gains": tried,
        "rule": "It must gain.",
        "resampled": "groups",
    }
    chosen["num_images"] = 1
    text = words(section(page(replace(results, postprocessing=chosen)), "choices"))
    assert (
        "Of 3 steps tried on 1 validation image, each for one class, kept: thresholds 0.35 (box), fill_holes (disc)."
        in text
    )
    assert "It must gain. The intervals resample groups; the test split was not used." in text
    chosen["gains"] = tried[1:2]
    assert "Of 1 step tried on 1 validation image, each for one class, none was kept." in words(
        page(replace(results, postprocessing=chosen))
    )


def limits_of(results, **about):
    return words(section(page(results, **about), "limits"))


def test_limits_are_computed_from_the_data(results):
    told = limits_of(results)
    assert "Epoch, thresholds and postprocessing were chosen on a single group" in told
    assert "The test split has only 3 groups" in told
    assert "Classes in fewer than 10 test images, with uncertain scores: box, disc." in told
    assert "phantom" not in told
    assert "another model" not in told
    assert "best epoch is the last" not in told


def test_scores_of_the_validation_split_are_not_called_test_scores(results):
    val = results.manifest.replace({"split": {"test": "val"}})
    html = page(replace(results, manifest=val, test_scores={**results.test_scores, "split": "val"}))
    told = words(section(html, "limits"))
    assert "The test split is empty. All scores are on the validation split, as there is no test split." in told
    assert "Epoch, thresholds and postprocessing were chosen on it, so the scores are optimistic." in told
    assert "images of the same kind and source as the val split" in told
    assert "val images 6 of 3 groups" in words(html)
    assert "All images of the val split" in words(section(html, "images"))
    assert "6 of 6 val images can be enlarged" in words(html)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"phantom": True}, "The data is a synthetic phantom: its scores say nothing about patients"),
        ({"ground_truth_is_model_output": True}, "The ground truth was made by another model."),
        ({"limits": ("Only one scanner.",)}, "Only one scanner."),
    ],
)
def test_what_only_the_user_knows_is_a_limit_too(results, about, sentence):
    assert sentence in limits_of(results, **about)


def test_a_class_that_no_test_image_shows_is_a_limit(results):
    manifest = results.manifest.copy()
    manifest.loc[manifest["split"] == "test", "area_disc"] = 0
    told = limits_of(replace(results, manifest=manifest))
    assert "in the test split score 0 if they are predicted, and are undefined otherwise: disc." in told


def test_a_training_that_ended_too_early_or_overfits_is_a_limit(results):
    history = results.training_history.assign(val_dice=[0.3, 0.4, 0.5], train_dice=[0.5, 0.6, 0.7])
    told = limits_of(replace(results, training_history=history))
    assert "The best epoch is the last one (3)" in told
    assert "Dice on the training images (0.700) is far above that on the validation images (0.500)" in told


def test_galleries_hold_what_their_titles_say(results, tested):
    scores = results.image_scores.copy()
    missed = (scores["image_id"] == "scan13") & (scores["class"] == "disc")
    scores.loc[missed, ["dice", "true_pos", "false_pos"]] = 0.0, 0, 0
    false = (scores["image_id"] == "scan12") & (scores["class"] == "box")  # an empty image
    scores.loc[false, ["dice", "false_pos"]] = 0.0, 9
    html = section(page(replace(results, image_scores=scores)), "galleries")
    shown = {
        title: re.findall(r"<figcaption><b>(\w+)</b>", part)
        for title, part in re.findall(r"<h3>(.*?)</h3>(.*?)(?=<h3>|</section>)", html, re.DOTALL)
    }
    assert shown["Worst"] == ["scan12", "scan13"]
    assert shown["Missed"] == ["scan13"]
    assert shown["False positives in empty images"] == ["scan12"]
    assert "No class was missed completely in an image." in words(section(page(results), "galleries"))
    assert len(shown["Median"]) == len(shown["Best"]) == 2
    assert "mean Dice 0.36: disc 0.00, box 0.73" in words(html)


def test_the_table_of_images_has_every_image_worst_first(results):
    html = section(page(results), "images")
    rows = re.findall(
        r'<tr data-row data-picture="scan1." [^>]*?data-group="(\w+)" data-outcome="([\w|]+)" data-classes="([\w|]*)">',
        html,
    )
    assert len(rows) == 6
    assert rows[-1] == ("group6", "neither", "")  # the empty image has no Dice and comes last
    assert "correctly empty" in html
    assert "undefined" not in html


def test_a_score_that_cannot_be_taken_has_a_reason(results):
    scores = copy.deepcopy(results.test_scores)
    scores["classes"]["box"] |= {"precision": None, "precision_interval": None}
    scores["classes"]["disc"] |= {"dice": None, "dice_interval": None, "num_images": 0}
    text = words(section(page(replace(results, test_scores=scores)), "scores"))
    assert "0.571 0.471 to 0.621 never predicted" in text
    assert "disc 0 not in these images" in text


SECTIONS = "data findings splits search training choices scores galleries images limits reproduce"


def test_the_story_of_the_run_is_told_in_order(results):
    assert " ".join(re.findall(r'<section id="(\w+)"', page(results))) == SECTIONS


def pictures(html):
    return json.loads(re.search(r'id="pictures">(.*?)</script>', html, re.DOTALL).group(1))


def test_every_test_image_opens_large_with_its_masks(results, tested, html):
    data = pictures(html)
    assert (data["names"], data["kinds"]) == (["box", "disc"], ["found"])
    assert data["colours"] == ["#e69f00", "#56b4e9"]
    found = {one["id"]: one for one in data["pictures"]}
    assert sorted(found) == [f"scan{number}" for number in range(10, 16)]
    row = tested.set_index("image_id").loc["scan10"]
    guess = results.predictions.set_index("image_id").loc["scan10"]
    assert (found["scan10"]["height"], found["scan10"]["width"]) == (row["height"], row["width"])
    assert found["scan10"]["true"] == {"0": row["mask_box"], "1": row["mask_disc"]}
    assert found["scan10"]["found"] == {"0": guess["mask_box"], "1": guess["mask_disc"]}
    assert found["scan12"]["true"] == {}
    assert found["scan12"]["caption"] == "correctly empty"


def test_pictures_stop_at_the_size_that_the_page_may_have(results):
    options = (results.manifest, str.upper, {"found": results.predictions}, ["box", "disc"])
    every, _ = picture_data(["scan13", "scan10", "scan13"], *options)
    assert every == ["scan13", "scan10"]
    one = len(picture_data(["scan13"], *options)[1])
    kept, data = picture_data(["scan13", "scan10"], *options, max_bytes=one)
    assert kept == ["scan13"]
    assert '"caption":"SCAN13"' in data


def test_a_false_positive_of_two_pixels_gets_a_ring(results):
    spot = results.predictions.assign(mask_box="1 2", mask_disc="")
    data = pictures(page(replace(results, predictions=spot)))
    empty = next(one for one in data["pictures"] if one["id"] == "scan12")
    assert empty["spots"] == [[1.0, 0.5]]


def test_charts_hold_their_values(results):
    curves, sizes = (
        json.loads(chart_data(results)[name])["panels"] for name in ("training_curves", "object_size_chart")
    )
    assert [(one["title"], one["mark"]) for one in curves] == [("Dice", 2)]  # the history has no losses
    assert [one["name"] for one in curves[0]["series"]] == ["train", "val"]
    assert curves[0]["series"][1]["points"] == [[1, 0.4], [2, 0.7], [3, 0.6]]
    assert [one["title"] for one in sizes] == ["box", "disc"]
    assert sizes[1]["series"][0]["colour"] == "#56b4e9"
    scores = results.image_scores.set_index(["image_id", "class"]).loc[("scan10", "box")]
    assert [scores["truth_area"], scores["dice"], "scan10"] in sizes[0]["series"][0]["points"]
    assert len(sizes[0]["series"][0]["points"]) == 5  # not the image without the class


def test_choices_and_objects_have_charts_with_their_values(results):
    levels = {
        "class": "box",
        "threshold": [0.25, 0.75],
        "dice": [0.5, 0.75],
        "precision": [0.625, None],
        "recall": 0.375,
    }
    bins = {"class": "box", "confidence": [0.125, 0.875, 0.25], "frequency": [0.25, 0.5, None], "pixels": [9, 9, 0]}
    scores = copy.deepcopy(results.test_scores)
    scores["classes"]["disc"]["objects"] = {"by_threshold": {"0.50": {"f1": 0.75}, "0.55": {"f1": None}}}
    known = replace(
        results,
        threshold_curve=pd.DataFrame(levels),
        reliability=pd.concat([pd.DataFrame(bins).assign(calibrated=one) for one in (False, True)]),
        postprocessing={"settings": {"thresholds": [0.25, 0.5]}},
        test_scores=scores,
    )
    thresholds, reliability, objects = (
        json.loads(chart_data(known)[f"{name}_chart"])["panels"]
        for name in ("threshold", "reliability", "object_scores")
    )
    assert [(one["title"], one["mark"], one["y"]["low"]) for one in thresholds] == [("box", 0.25, 0.3)]
    points = {one["name"]: one["points"] for one in thresholds[0]["series"]}
    assert points["precision"] == [[0.25, 0.625]]
    assert points["recall"] == [[0.25, 0.375], [0.75, 0.375]]
    assert [one["name"] for one in reliability[0]["series"]] == ["perfect", "before calibration", "in use"]
    assert reliability[0]["series"][2]["points"] == [[0.125, 0.25], [0.875, 0.5]]
    assert [(one["name"], one["points"]) for one in objects[0]["series"]] == [("disc", [[0.5, 0.75]])]


def test_curves_of_folds_and_very_many_points_stay_pictures(results, crowded):
    folds = pd.concat([results.training_history.assign(fold=fold) for fold in (0, 1)])
    assert list(chart_data(replace(results, training_history=folds))) == ["object_size_chart"]
    assert list(chart_data(crowded)) == ["training_curves"]


def test_the_other_runs_masks_are_shown_beside_this_ones(results, tested):
    worse = results.image_scores.assign(
        dice=results.image_scores["dice"] - [0.5 * (one == "scan14") for one in results.image_scores["image_id"]]
    )
    pairs, nothing = pair_scores(tested, results.image_scores, tested, worse), {"mask_box": "", "mask_disc": ""}
    html = page(replace(results, comparison=pairs, other_predictions=results.predictions.assign(**nothing)), other="o")
    assert pictures(html)["kinds"] == ["found", "other"]
    assert {tuple(one["other"]) for one in pictures(html)["pictures"]} == {()}
    assert re.findall(r'<figure data-picture="(\w+)"', section(html, "comparison")) == ["scan14"]
    assert re.search(r"mean Dice 0.\d\d \(left\) against 0.\d\d \(right\): \+0.50", section(html, "comparison"))


def test_five_thousand_images_are_cut_to_the_worst_and_the_page_says_so(crowded):
    whole = page(crowded)
    html = section(whole, "images")
    assert html.count("<tr data-row") == MAX_ROWS
    assert "The 2,000 images with the lowest Dice of 5,000; image_scores.parquet has all of them." in html
    assert "image00000" in html
    assert "image04999" not in html
    assert len(whole) < 3e6


def test_thirty_classes_have_a_row_each_and_no_column_among_the_splits(crowded):
    html = page(crowded)
    assert section(html, "scores").count("<tr data-row") == 30
    assert "long_name" not in section(html, "data")
    assert "Classes shown by fewer than 10 test images" not in section(html, "limits")


def test_a_comparison_has_its_section(results, tested):
    mine, other = results.image_scores, results.image_scores.assign(dice=results.image_scores["dice"] - 0.25)
    pairs = pair_scores(tested, mine, tested, other)
    html = page(replace(results, comparison=pairs), other="data/other")
    text = words(section(html, "comparison"))
    assert "This run is better: Dice 0.726 against 0.476, difference +0.250" in text
    assert "data/other" in text
    assert "disc 0.725 0.475 +0.250 +0.250 to +0.250 5 0 better" in text
    assert 'id="comparison"' not in page(results)


def test_the_command_and_the_hashes_are_told(html):
    text = words(section(html, "reproduce"))
    assert "kedro run --env folders --params seed=3" in text
    assert f"checkpoint.pt {'ab' * 32}" in text
    assert re.search(r"This page is a single file of \d+\.\d MB", text)


# The model card


def test_the_card_has_the_fields_of_mitchell_et_al(results):
    card = model_card(results, ModelCardDetails(), phantom=True)
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]
    assert "Mean Dice 0.726 (0.610 to 0.920), mean IoU 0.57" in card
    assert re.search(
        r"^\| box \| 5 \| 0\.727 \(0\.627 to 0\.777\) \| 0\.571 .* \| 2\.2 \(1\.5 to 3\.0\) \|$", card, re.M
    )
    assert "Not stated; set `reporting.model_card.intended_use`." in card
    assert "- The data is a synthetic phantom" in card
    assert f"`checkpoint.pt`, sha256 {'ab' * 32}" in card


def test_the_card_says_what_the_user_says(results):
    card = model_card(results, ModelCardDetails(intended_use="Research only."), phantom=False)
    assert "Research only." in card
    assert "intended_use" not in card
    assert "trained on from" not in card


def test_the_card_says_which_weights_the_training_started_from(results):
    config = {**results.training_config, "start": {"checkpoint": "old/checkpoint.pt"}}
    card = model_card(replace(results, training_config=config), ModelCardDetails(), phantom=False)
    assert ", fine-tuned from `old/checkpoint.pt`; input " in card


def test_a_card_without_a_model_says_so(results):
    card = model_card(bare(results), ModelCardDetails(), phantom=False)
    assert "No model has been trained yet." in card
    assert card.count("Not measured yet.") == 3
    assert "- No model has been scored. Run `kedro run --pipeline evaluation --env folders --params seed=3`." in card


def test_what_users_wrote_cannot_break_the_cards_tables(results):
    scores = dict(results.test_scores)
    scores["classes"] = {"a|b*": scores["classes"]["box"], "disc": scores["classes"]["disc"]}
    assert r"| a\|b\* | 5 |" in model_card(replace(results, test_scores=scores), ModelCardDetails(), phantom=False)


def test_scores_by_object_have_a_section_and_a_table_in_the_model_card(results):
    masks = np.repeat([[1, 1, 0, 2, 2, 2]], 4, axis=0)
    found = np.repeat([[1, 1, 0, 2, 3, 3]], 4, axis=0)
    parts = [np.array(part)[None, None] for part in count_objects(found, masks)]
    counts = ObjectCounts(*parts, known=np.ones((1, 1), dtype=bool))
    means, classes = summary(
        counts, ["cell"], pd.Series(["a"]), aggregator=Aggregator("image", "skip", 0, seed=0), confidence=0.95
    )
    scores = {**results.test_scores, "objects": means}
    name = next(iter(scores["classes"]))
    scores["classes"] = scores["classes"] | {name: {**scores["classes"][name], "objects": classes["cell"]}}
    chart = {**results.figures, "object_scores_chart": results.figures["class_scores"]}
    with_objects = replace(results, test_scores=scores, figures=chart)
    html, card = page(with_objects), model_card(with_objects, ModelCardDetails(), phantom=False)
    for text in ("Scores by object", "F1 by IoU threshold", "F1 of objects", "+1.00", "0.800"):
        assert text in html
    assert f"| {name} | 2 | 3 | 0.800 | 0.667 | 1.000 |" in card  # 2 TP, 1 FP: the IoU of 2 and 3 + 3 is 2/3
    assert "Scores by object" not in page(results)
    assert "By object" not in model_card(results, ModelCardDetails(), phantom=False)


def test_the_human_ceiling_stands_beside_the_models_score(results):
    test = results.manifest.loc[results.manifest["split"] == "test", "image_id"]
    table = pd.DataFrame({"image_id": test, "class": "box", "annotators": 2, "dice": 0.75, "kappa": 0.7})
    with_people = replace(results, annotator_agreement=table)
    told = "Several people annotated 6 images of this split; two of them agree with mean Dice 0.750 (box 0.750)."
    assert told in page(with_people)
    assert "annotators, Dice" in page(with_people)
    assert told in model_card(with_people, ModelCardDetails(), phantom=False)
    assert "Several people" not in model_card(results, ModelCardDetails(), phantom=False)
