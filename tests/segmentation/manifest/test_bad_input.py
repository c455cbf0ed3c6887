"""Broken tables, run lengths and files thrown at the whole chain: nothing is lost, and every error is explained."""

import os
import re
import shutil
import string
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from seg_pipeline.segmentation.images.decoding import read_image, read_size
from seg_pipeline.segmentation.images.masks import MaskError, decode_rle, encode_rle, read_rle
from seg_pipeline.segmentation.manifest import (
    cross_checks,
    exclusions,
    files,
    measure_image,
    measure_table,
    metadata,
    split_checks,
    splits,
)
from seg_pipeline.segmentation.manifest import findings as quality
from seg_pipeline.segmentation.manifest import table as manifest
from seg_pipeline.segmentation.manifest.finding_rules import RULES
from seg_pipeline.segmentation.manifest.table_schemas import FINDINGS, LOCATED_IMAGES, MANIFEST

CLASSES = {"a": "a", "b": "2"}
COLUMNS = {"image_id": "id", "class": "class", "mask": "mask"}
PATTERN = r"(?:(?P<group>g\d)/)?(?P<image_id>i\d)(?:_(?P<width>\d+)_(?P<height>\d+))?\.png"
SOAK = int(os.environ.get("SOAK", "1"))
"""How many times as many examples as usual: SOAK=20 throws 3,000 inputs at the chain."""
SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}

GOOD = cv2.imencode(".png", np.arange(35, dtype=np.uint8).reshape(5, 7))[1].tobytes()
OTHER = cv2.imencode(".png", np.full((5, 7), 900, dtype=np.uint16))[1].tobytes()
SMALL = cv2.imencode(".png", np.arange(4, dtype=np.uint8).reshape(2, 2))[1].tobytes()
HUGE = GOOD[:16] + (40_000).to_bytes(4, "big") * 2 + GOOD[24:]

numbers = st.integers(-3, 60).map(str) | st.sampled_from(["", "x", "1.5", "9" * 25, "-", "²", "nan", "٣"])
rles = st.lists(numbers, max_size=7).map(" ".join) | st.sampled_from(["1 3 9 2", "1 35", "8 7 15 7", "5 2 4 2"])
cells = st.none() | rles | st.text(string.printable, max_size=8)
ids = st.sampled_from(["i0", "i1", "i2", "i3", "i9", "", " i1", "I1", None, "1", "x{y}"])
rows = st.tuples(ids, st.sampled_from(["a", "2", "2.0", "A", "", None]), cells)
contents = st.sampled_from([GOOD, OTHER, SMALL, HUGE, GOOD[:40], GOOD[:-20], b"", b"GIF89a"]) | st.binary(max_size=40)
names = st.sampled_from(
    [
        "i0.png",
        "i1.png",
        "g1/i0.png",
        "g1/i2.png",
        "g2/i3.png",
        "i1_7_5.png",
        "g2/i1_5_7.png",
        "notes.png",
        "i0 copy.png",
    ]
)


def chain(folder: Path, table: pd.DataFrame, several: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Manifest, all findings, accounts, as the nodes make them."""
    annotations, of_rows = metadata.clean_annotations(
        table, mask_format="rle", columns=COLUMNS, class_values=CLASSES, multiple_masks=several
    )
    index = files.index_files(folder, glob="**/*.png", pattern=PATTERN)
    annotated = metadata.pivot_annotations(annotations, list(CLASSES))
    located, of_files = manifest.merge_files(annotated, index, pd.DataFrame(), mask_format="rle")
    listed = pd.DataFrame([("i3", "flag", "{odd}")], columns=exclusions.COLUMNS)
    selected, of_lists = exclusions.exclude_images(LOCATED_IMAGES.validate(located), listed)
    images, of_images = measure_table.measure_images(selected, measure_image.MaskReader(CLASSES, "rle"))
    of_checks = cross_checks.check_images(images, annotations, rle_order="C")
    options = {"shares": SHARES, "grouped": True, "stratified": False, "seed": 0}
    made = images.merge(splits.assign_splits(images, **options)[["image_id", "split", "fold"]], on="image_id")
    leaks = split_checks.check_leaks(images, made[["image_id", "split", "fold"]], allowed=True)
    findings = quality.collect(of_rows, of_files, of_lists, of_images, of_checks, leaks)
    accounts = quality.reconcile(len(table), annotations, index, made, findings)
    return MANIFEST.validate(made), FINDINGS.validate(findings), accounts


@pytest.mark.slow
@pytest.mark.timeout(300 * SOAK)
@seed(17)
@settings(max_examples=150 * SOAK, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    table=st.lists(rows, min_size=1, max_size=9),
    found=st.dictionaries(names, contents, min_size=1, max_size=6),
    several=st.sampled_from(["merge", "refuse"]),
)
def test_whatever_comes_is_kept_or_found_or_refused_in_words(table, found, several):
    folder = Path(tempfile.mkdtemp())
    try:
        for name, content in found.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        given_rows = pd.DataFrame(table, columns=["id", "class", "mask"], dtype="str")
        made, findings, accounts = chain(folder, given_rows, several)
    except ValueError as error:  # of the whole input: no class known, no image usable, too few groups
        expected = (
            "no row of the metadata table|no image of the metadata table|none of the|groups .* cannot fill|the pattern"
        )
        assert re.search(expected, str(error)), error  # noqa: PT017  most examples raise none
    else:
        assert set(findings["rule"]) <= set(RULES)
        assert (accounts["read"] == accounts["kept"] + accounts["set_aside"]).all()
        assert accounts["read"].tolist() == [len(table), len(found)]
        assert made["image_id"].is_unique
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@seed(17)
@settings(max_examples=3000 * SOAK, deadline=None, database=None)
@given(rle=rles | st.text(max_size=12), shape=st.tuples(st.integers(1, 6), st.integers(1, 9)), first=st.integers(0, 1))
def test_run_lengths_become_a_mask_that_gives_them_back_or_a_reason(rle, shape, first):
    try:
        mask = decode_rle(rle, shape, order="F", first=first)
    except MaskError as error:
        assert error.rule in RULES  # noqa: PT017
    else:
        assert mask.shape == shape
        np.testing.assert_array_equal(decode_rle(encode_rle(mask, order="F"), shape, order="F"), mask)
        assert mask.sum() == sum(int(length) for length in rle.split()[1::2])
        read = read_rle(rle, shape, order="C", first=first)
        assert read.area == read.mask.sum()
        assert read.rle in (encode_rle(read.mask, order="C"), None)


@pytest.mark.slow
@seed(17)
@settings(max_examples=1000 * SOAK, deadline=None, database=None)
@given(content=contents, cut=st.integers(0, 90))
def test_any_file_is_an_image_or_refused_in_words(content, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "i.png"
        path.write_bytes(content[: len(content) - cut])
        try:
            image = read_image(path)
        except ValueError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
        else:
            assert image.size <= 35


def test_a_header_of_40000_by_40000_is_refused_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imread", lambda *_: pytest.fail("was decoded"))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(HUGE)
    with pytest.raises(ValueError, match=r"bomb.png: 40000 x 40000 pixels are more than the limit of 50,000,000"):
        read_image(bomb)
    tiff = tmp_path / "bomb.tif"
    head = b"II*\0\x08\0\0\0\x02\0" + b"".join(
        tag.to_bytes(2, "little")
        + (4).to_bytes(2, "little")
        + (1).to_bytes(4, "little")
        + (40_000).to_bytes(4, "little")
        for tag in (256, 257)
    )
    tiff.write_bytes(head + b"\0" * 4)
    with pytest.raises(ValueError, match=r"bomb.tif: "):
        read_size(tiff)
