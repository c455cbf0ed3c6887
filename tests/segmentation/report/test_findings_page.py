import base64
import hashlib
import re

import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest.findings import Finding, findings_table
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.manifest.split_checks import split_table
from seg_pipeline.segmentation.report import findings_page
from seg_pipeline.segmentation.report.findings import MAX_PICTURES, MAX_ROWS

ACCOUNTS = pd.DataFrame({"input": ["rows", "files"], "read": [48, 1200], "kept": [47, 1199], "set_aside": [1, 1]})


@pytest.fixture
def made(located):
    images, _ = measure_images(located, MaskReader({"box": "box", "disc": "disc"}, "rle"))
    return images.assign(split=["train"] * 12 + ["val"] * 4, fold=[0, 1] * 8)


def page(manifest, found, files=None):
    files = pd.DataFrame({"image_id": [], "path": []}) if files is None else files
    return findings_page(findings_table(found), manifest, ACCOUNTS, files, splits=split_table(manifest))


def test_nothing_in_the_page_asks_the_network_and_its_policy_forbids_it(made):
    html = page(made, [Finding("blank_image", "every pixel is 7", "flagged", "scan01", "scan01.png")])
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert not re.findall(r"url\(|@import|https?://", html)
    assert "16 images can be used. 1 finding: 1 flagged." in html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1).replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy  # else the browser would refuse it
    assert " style=" not in html


def test_counts_meanings_splits_and_accounts_are_told(made):
    found = [
        Finding("rle_unsorted", "run 2 is unsorted", "dropped", "scan99", "scan99.png", 5),
        *[Finding("blank_image", "every pixel is 7", "flagged", f"scan0{number}") for number in range(3)],
        Finding("of_a_plugin", "unknown to us", "flagged"),
    ]
    html = page(made, found)
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", html))
    assert "16 images can be used. 5 findings: 4 flagged, 1 dropped." in text
    assert "rle_unsorted dropped 1 Runs overlap or are not in ascending order. Encode the mask again" in text
    assert "blank_image flagged 3 All pixels are equal." in text
    assert "files 1,200 1,199 1" in text
    assert "train 12 6 75.0 % 75 % 75 %" in text
    assert "2 folds for cross-validation, with 8, 8 images." in text
    assert html.count("<tr data-row") == 5


def test_images_are_shown_once_a_rule_and_the_rules_take_turns(made):
    found = [Finding("blank_image", "x", "flagged", f"scan{number:02d}") for number in range(16)]
    found += [Finding("mask_jumps", "y", "flagged", f"scan{number:02d}") for number in (3, 3, 4, 5)]
    shown = re.findall(r"<figcaption>.*?<code>(\w+)</code>", page(made, found))
    assert len(shown) == MAX_PICTURES
    assert shown[:6] == ["blank_image", "mask_jumps"] * 3


def test_an_image_that_was_dropped_is_shown_if_it_can_be_read_and_has_a_card_in_any_case(made, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    files = pd.DataFrame({"image_id": ["bad", "cut"], "path": [made["path"][0], str(tmp_path / "no.png")]})
    found = [Finding("rle_unsorted", "", "dropped", "bad"), Finding("unreadable_image", "", "dropped", "cut")]
    found.append(Finding("row_without_file", "", "dropped", "gone"))
    cards = re.findall(r"<figure>(?:<img|<p class=.blank.>(.*?)</p>).*?<b>(\w+)</b>", page(made, found, files))
    assert cards == [("", "bad"), ("cannot be read", "cut"), ("no image file", "gone")]


def test_a_reason_does_not_repeat_where_the_file_is(made):
    html = page(made, [Finding("unreadable_image", "/data/train/a/b.png: truncated: x", "dropped", "b", "a/b.png")])
    assert html.count("truncated: x<") == 2
    assert "/data/train" not in html


def test_words_tell_how_unused_inputs_and_findings_fit_together(made):
    found = [Finding("unreadable_image", "", "dropped", "cut"), Finding("blank_image", "", "flagged", "scan01")]
    assert "1 finding with the action dropped explains the 1 unused row and 1 unused file: a finding" in page(
        made, found
    )
    two = page(made, [found[0], found[0]])
    assert "2 findings with the action dropped explain the 1 unused row and 1 unused file" in two


def test_every_rule_links_to_what_it_means(made):
    html = page(
        made, [Finding("blank_image", "", "flagged", "scan01"), Finding("blank_image", "", "dropped", "scan02")]
    )
    assert html.count('<tr id="rule-blank_image">') == 1
    assert html.count('<a href="#rule-blank_image">') == 4  # two cards and two rows


def test_what_users_wrote_cannot_become_code(made):
    html = page(made, [Finding("bad_mask", "<script>alert(1)</script> `<b>`", "dropped", "<img src=x>", "\"'>")])
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "<code>&lt;b&gt;</code>" in html


def test_a_long_list_is_cut_and_says_so(made):
    found = [Finding("file_without_row", "", "dropped", None, f"f{number}.png") for number in range(MAX_ROWS + 1)]
    html = page(made, found)
    assert html.count("<tr data-row") == MAX_ROWS
    assert "The first 2,000 of 2,001 findings; findings.parquet has all of them." in html


def test_without_findings_the_page_says_that_all_is_well(made):
    html = page(made, [])
    assert "No problems were found" in html
    assert "<figure>" not in html
