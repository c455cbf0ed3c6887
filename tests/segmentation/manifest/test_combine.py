"""Two data sets as one manifest: names, masks, unannotated classes, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.data.sample_decoding import Decoder
from seg_pipeline.segmentation.images.masks import IGNORE, encode_rle
from seg_pipeline.segmentation.manifest.combine import combine_manifests
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, read_masks
from seg_pipeline.segmentation.objects.label_maps import decode_labels, encode_labels
from seg_pipeline.segmentation.settings.training import InputSettings, SourceInput

SHAPE = 2, 3


def rle(*pixels: int) -> str:
    mask = np.zeros(SHAPE, dtype=bool)
    mask.flat[list(pixels)] = True
    return encode_rle(mask, order="C")


def manifest(name: str, masks: dict[str, tuple[int, ...]], *, overlaps: str = "", **more) -> pd.DataFrame:
    """One image, 2 x 3, whose masks are lists of pixels counted row by row."""
    row = {"image_id": name, "group": "p1", "series": "s1", "frame": 0, "height": 2, "width": 3, "split": "train",
           "fold": 0, "ignore": "", "overlaps": overlaps, "path": f"/{name}.png", "content_hash": name}  # fmt: skip
    for kind, value in (("mask", rle), ("area", lambda *p: len(p)), ("share", lambda *p: len(p) / 6),
                        ("objects", lambda *p: int(len(p) > 0))):  # fmt: skip
        row |= {f"{kind}_{name}": value(*pixels) for name, pixels in masks.items()}
    return pd.DataFrame([row | more])


CLINIC = manifest("x", {"liver": (0, 1), "spleen": (5,), "bone": (2,)}, overlaps="0+2:7 0+1:3", spacing_x=1.5)
STREET = manifest("x", {"colon": (3, 4)}, ignore=rle(0), split="test", fold=-1)


def combined(classes=("spleen", "liver", "bowel"), renamed=None) -> pd.DataFrame:
    given = {"a": {"bone": None}, "b": {"colon": "bowel"}} if renamed is None else renamed
    return combine_manifests({"a": CLINIC, "b": STREET}, list(classes), given)[0]


def test_rows_keep_their_split_and_say_where_they_come_from():
    found = combined()
    assert found[["image_id", "group", "series", "split", "fold", "source"]].to_numpy().tolist() == [
        ["a/x", "a/p1", "a/s1", "train", 0, "a"],
        ["b/x", "b/p1", "b/s1", "test", -1, "b"],
    ]
    assert "spacing_x" not in found  # only one of the sources has it
    assert [name for name in found if name.startswith("mask_")] == ["mask_spleen", "mask_liver", "mask_bowel"]
    assert found["mask_liver"].tolist() == [rle(0, 1), NOT_ANNOTATED]
    assert found["mask_bowel"].tolist() == [NOT_ANNOTATED, rle(3, 4)]
    assert found["area_bowel"].tolist() == [0, 2]


def test_overlaps_count_the_new_classes_and_drop_those_that_are_gone():
    assert combined()["overlaps"].tolist() == ["0+1:3", ""]  # liver and bone: 7 pixels, but bone is left out


def test_classes_of_a_source_may_become_one():
    found = combined(
        ["organ", "bowel"], {"a": {"liver": "organ", "spleen": "organ", "bone": None}, "b": {"colon": "bowel"}}
    )
    assert found.loc[0, "mask_organ"] == rle(0, 1, 5)
    assert (found.loc[0, "area_organ"], found.loc[0, "objects_organ"]) == (3, 2)
    assert found.loc[0, "share_organ"] == pytest.approx(0.5)
    assert found.loc[0, "overlaps"] == ""


def with_objects(rows: pd.DataFrame, **labels: list[list[int]]) -> pd.DataFrame:
    return rows.assign(**{f"object_map_{name}": encode_labels(np.array(one)) for name, one in labels.items()})


LIVERS = with_objects(CLINIC, liver=[[1, 2, 0], [0, 0, 0]], spleen=[[0, 0, 0], [0, 0, 1]], bone=[[0, 0, 1], [0, 0, 0]])
COLONS = with_objects(STREET, colon=[[0, 0, 0], [2, 5, 0]])


def objects_of(renamed, classes=("spleen", "liver", "bowel"), sources=None) -> dict[str, list]:
    found, _ = combine_manifests(sources or {"a": LIVERS, "b": COLONS}, list(classes), renamed, objects=True)
    return {name: [decode_labels(text, SHAPE).tolist() for text in found[f"object_map_{name}"]] for name in classes}


NOTHING = [[0, 0, 0], [0, 0, 0]]


def test_objects_go_with_their_class():
    found = objects_of({"a": {"bone": None}, "b": {"colon": "bowel"}})
    assert found["liver"] == [[[1, 2, 0], [0, 0, 0]], NOTHING]
    assert found["bowel"] == [NOTHING, [[0, 0, 0], [2, 5, 0]]]


def test_objects_of_classes_that_become_one_keep_apart():
    found = objects_of({"a": {"liver": "organ", "spleen": "organ", "bone": None}, "b": {"colon": "organ"}}, ["organ"])[
        "organ"
    ]
    assert len({one for row in found[0] for one in row} - {0}) == 3  # two livers that touch, and a spleen
    assert np.array(found[0]).astype(bool).tolist() == [[True, True, False], [False, False, True]]
    assert found[1] == [[0, 0, 0], [2, 5, 0]]


def test_objects_of_which_an_image_annotates_a_part_are_unknown():
    rows = LIVERS.assign(mask_spleen=NOT_ANNOTATED, object_map_spleen="")
    names = {"liver": "organ", "spleen": "organ", "bone": None}
    assert objects_of({"a": names}, ["organ"], {"a": rows})["organ"] == [NOTHING]


def test_a_source_without_objects_is_refused_where_they_are_asked_for():
    told = "`dataset.objects` is true, but b has no objects; set it in that environment too, and run its data_process"
    with pytest.raises(ValueError, match=told):
        objects_of({"a": {"bone": None}, "b": {"colon": "bowel"}}, sources={"a": LIVERS, "b": STREET})
    plain, _ = combine_manifests({"a": LIVERS}, ["liver", "spleen", "bone"], {})
    assert not [name for name in plain if name.startswith("object_map_")]


def test_a_class_that_a_source_lacks_is_ignored_in_its_images():
    first, second = combined().to_dict("records")
    names = ["spleen", "liver", "bowel"]
    assert read_masks(first, names).reshape(3, 6).tolist() == [
        [0, 0, 0, 0, 0, 1],
        [1, 1, 0, 0, 0, 0],
        [IGNORE] * 6,
    ]
    assert read_masks(second, names).reshape(3, 6).tolist() == [
        [IGNORE] * 6,
        [IGNORE] * 6,
        [IGNORE, 0, 0, 1, 1, 0],
    ]


@pytest.mark.parametrize(
    ("names", "expected", "reasons"),
    [
        # a has no bowel, b no spleen: what they become together is unknown in both
        ({"spleen": "inside", "bowel": "inside", "liver": "liver"}, {"inside": ["?", "?"], "liver": [rle(0, 1), "?"]},
         ["inside is taken as not annotated, as only a part of spleen, bowel is annotated here"] * 2),
        ({"spleen": "inside", "bowel": None, "liver": "inside"}, {"inside": [rle(0, 1, 5), "?"]}, []),
    ],
)  # fmt: skip
def test_a_class_of_which_an_image_annotates_a_part_is_not_annotated(names, expected, reasons):
    classes = list(expected)
    found, findings = combine_manifests({"both": combined(), "c": CLINIC}, [*classes, "bone"], {
        "both": names, "c": {"liver": classes[-1], "spleen": None}})  # fmt: skip
    for name, masks in expected.items():
        assert found[f"mask_{name}"].tolist()[:2] == masks
        assert [found.loc[at, f"area_{name}"] for at, text in enumerate(masks) if text == "?"] == [0] * masks.count("?")
    assert findings["reason"].tolist() == reasons
    assert findings["image_id"].tolist() == ["both/a/x", "both/b/x"][: len(reasons)]


def test_sources_of_a_combined_source_keep_their_names_and_normalisation():
    found = combine_manifests({"both": combined(), "c": CLINIC}, ["spleen", "liver", "bowel"], {"c": {"bone": None}})[0]
    assert found["source"].tolist() == ["both/a", "both/b", "c"]
    settings = InputSettings(by_source={name: SourceInput(normalisation="fixed", window=(0, high)) for name, high in
                                        (("both", 9), ("both/b", 90))})  # fmt: skip
    assert [settings.of_source(name).window for name in found["source"]] == [(0, 9), (0, 90), None]


@pytest.mark.parametrize(("sources", "others", "told"), [
    (["clinic_a", "clinic_b"], False, "did you mean `by_source.clinic_b`?"),
    (["clinic_a", "clinic_b"], True, "did you mean `by_source.clinic_b`?"),
    (["both/x", "both/y"], False, "known: both, both/x, both/y"),
    ([], False, "it is not a combined one, see docs/how-to/combine.md"),
])  # fmt: skip
def test_a_misspelt_source_is_refused(sources, others, told):
    settings = InputSettings(by_source={"clinik_b": SourceInput(normalisation="fixed", window=(0, 9))})
    with pytest.raises(
        ValueError, match=re.escape(f"by_source.clinik_b`: the manifest has no source of this name; {told}")
    ):
        settings.check_sources(sources, others=others)


def test_a_source_may_be_in_the_test_split_alone():
    fixed = SourceInput(normalisation="fixed", window=(0, 9))
    InputSettings(by_source={"outside": fixed}).check_sources(["clinic_a"], others=True)
    InputSettings(by_source={"both": fixed, "both/a": fixed}).check_sources(["both/a", "both/b"])


SETTINGS = InputSettings(resize_mode="crop", size=(32, 32))


def test_training_sees_the_same_truth():
    multilabel = Decoder(combined(), SETTINGS, task="multilabel", background=False)
    for index, row in enumerate(combined().to_dict("records")):
        assert multilabel.truth(index).tolist() == read_masks(row, multilabel.names).tolist()


def test_a_multiclass_pixel_of_no_class_may_be_of_the_class_that_is_not_annotated():
    multiclass = Decoder(combined(), SETTINGS, task="multiclass", background=True)
    assert multiclass.truth(0).ravel().tolist() == [2, 2, IGNORE, IGNORE, IGNORE, 1]
    assert multiclass.truth(1).ravel().tolist() == [IGNORE, IGNORE, IGNORE, 3, 3, IGNORE]


@pytest.mark.parametrize(
    ("manifests", "classes", "renamed", "message"),
    [
        ({}, ["liver"], {}, "there is no data set to combine"),
        (
            {"b": STREET},
            ["bowel"],
            {"b": {"colon": "bowel"}, "c": {}},
            "`combine.classes` names c, but the sources are b",
        ),
        ({"b": STREET}, ["bowel"], {"b": {"bone": "bowel"}}, "b has no class bone; it has colon"),
        ({"b": STREET}, ["bowel"], {}, "b: no class of the combined data set for colon; `dataset.classes` are bowel."),
        ({"b": STREET}, ["bowel"], {"b": {"colon": "gut"}}, "for colon (would be gut)"),
        ({"b": STREET}, ["colon", "liver"], {}, "no source annotates liver; take it out of `dataset.classes`"),
    ],
)
def test_what_does_not_fit_is_refused(manifests, classes, renamed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        combine_manifests(manifests, classes, renamed)


@pytest.mark.slow
def test_hundreds_of_classes_are_joined_at_once():
    """pandas warns, once for each column, if they are added one by one; warnings are errors here."""
    names = [f"n{number}" for number in range(300)]
    found, _ = combine_manifests({"a": manifest("x", dict.fromkeys(names, (1, 2)))}, names, {})
    assert found[[f"mask_{name}" for name in names]].iloc[0].unique().tolist() == [rle(1, 2)]
