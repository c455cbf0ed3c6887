import json
import re
import shutil

import pytest

from seg_pipeline.segmentation.prediction.bundle import Bundle, file_name
from seg_pipeline.segmentation.prediction.predictor import load_onnx


@pytest.fixture
def copied(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def changed(folder, **values):
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_bundle_survives_a_round_trip(bundle_folder):
    bundle = Bundle.read(bundle_folder)
    assert Bundle.from_dict(bundle.to_dict(), bundle_folder) == bundle
    assert bundle.classes == ("box", "disc")
    assert bundle.colours == ("#e69f00", "#56b4e9")
    assert bundle.formats == ("onnx", "torchscript", "pt2", "safetensors")
    assert (bundle.input.size, bundle.num_channels, bundle.postprocessing.thresholds) == ((64, 96), 2, (0.5, 0.5))


def test_a_bundle_records_its_origin(bundle_folder, checkpoint):
    provenance = Bundle.read(bundle_folder).provenance
    (trained,) = provenance["models"]
    assert provenance["data_hash"] == "d"
    assert trained["config"] == checkpoint["models"][0]["config"]
    assert len(trained["weights_sha256"]) == 64
    assert {"seg_pipeline", "python", "torch", "onnx"} <= set(provenance["versions"])


def test_a_missing_bundle_is_reported_with_its_folder(tmp_path):
    with pytest.raises(
        ValueError, match=r"no bundle there \(no bundle.json\); make one with `kedro run --pipeline exp"
    ):
        Bundle.read(tmp_path)


def test_a_damaged_description_is_reported(copied):
    (copied / "bundle.json").write_text('{"format": ')
    with pytest.raises(ValueError, match=r"bundle.json: damaged, not valid JSON .*export again"):
        Bundle.read(copied)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"format_version": 3}, "format_version is 3, expected 2; export the model again"),
        ({"format": "other"}, "format is 'other', expected 'seg_pipeline.bundle'; export"),
    ],
)
def test_another_format_or_version_is_refused(copied, values, text):
    changed(copied, **values)
    with pytest.raises(ValueError, match=text):
        Bundle.read(copied)


def test_a_bundle_of_an_older_version_says_to_export_again(copied):
    values = json.loads((copied / "bundle.json").read_text())
    del values["format_version"]
    (copied / "bundle.json").write_text(json.dumps({**values, "version": 1}))
    with pytest.raises(ValueError, match="format_version is 1, expected 2; export the model again with this version"):
        Bundle.read(copied)


@pytest.mark.parametrize("values", [{"networks": [{}]}, {"postprocessing": None}, {"prediction": {"tta": "none"}}])
def test_an_incomplete_description_is_refused(copied, values):
    changed(copied, **values)
    with pytest.raises(ValueError, match=r"bundle.json: invalid description \(.*\); export again"):
        Bundle.read(copied)


@pytest.mark.fault(
    scenario="bundle with a hostile description",
    command="seg-pipeline predict, seg-pipeline serve",
    outcome="refused with the value",
    review="serving 14",
)
@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"task": "evil"}, "task is 'evil', expected multilabel or multiclass"),
        ({"task": ["multilabel"]}, "task is ['multilabel'], expected multilabel or multiclass"),
        ({"classes": "ab"}, "classes are 'ab', expected a list of different names"),
        ({"classes": ["box", "box"]}, "classes are ['box', 'box'], expected a list of different names"),
        ({"colours": ["#000000"]}, "colours are ['#000000'], expected one #rrggbb per class"),
        ({"colours": ["red", "#000000"]}, "colours are ['red', '#000000'], expected one #rrggbb per class"),
        ({"background": True}, "background is True, expected true or false; a multilabel task has none"),
        ({"networks": []}, "networks are missing"),
    ],
)
def test_invalid_values_in_a_description_are_refused(copied, values, found):
    changed(copied, **values)
    with pytest.raises(ValueError, match=re.escape(f"bundle.json: invalid description ({found}); export again")):
        Bundle.read(copied)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"provenance": 3}, "provenance is not an object"),
        (
            {"prediction": {"tta": None, "overlap": None, "ensemble": "all"}},
            "`prediction.tta` is None, expected none or h",
        ),
        ({"provenance": {"quality": {"formats": [3]}}}, "not subscriptable"),
    ],
)
def test_other_kinds_of_values_in_a_description_are_refused(copied, values, found):
    changed(copied, **values)
    with pytest.raises(ValueError, match=rf"bundle.json: invalid description \(.*{found}"):
        Bundle.read(copied)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("min_area", [None, 1], r"`postprocessing.min_area` is \[None, 1\], expected a list"),
        ("min_peak", [10**400, 0], "`postprocessing.min_peak` is "),
        ("thresholds", None, "postprocessing needs one value per class, and in a multiclass task no thresholds"),
    ],
)
def test_postprocessing_of_other_kinds_is_refused(copied, name, value, found):
    settings = json.loads((copied / "bundle.json").read_text())["postprocessing"]
    changed(copied, postprocessing={**settings, name: value})
    with pytest.raises(ValueError, match=rf"invalid description \(.*{found}"):
        Bundle.read(copied)


def test_networks_of_different_inputs_are_refused(copied):
    (network,) = json.loads((copied / "bundle.json").read_text())["networks"]
    other = {**network, "input": {**network["input"], "size": [32, 32]}}
    changed(copied, networks=[network, other])
    with pytest.raises(ValueError, match="the input settings of its networks may differ only in their statistics"):
        Bundle.read(copied)


def test_deeply_nested_json_is_reported_as_damage(copied):
    (copied / "bundle.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"bundle.json: damaged, not valid JSON"):
        Bundle.read(copied)


def test_a_file_that_is_not_a_network_is_refused(copied):
    (copied / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"model.onnx: not a network that onnxruntime can run \(.*\); export again"):
        load_onnx(copied / "model.onnx")


def test_a_changed_file_is_refused(copied):
    content = bytearray((copied / "model.onnx").read_bytes())
    content[1000] ^= 1
    (copied / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"model.onnx: changed since the export \(sha256 .*; copy it again"):
        Bundle.read(copied).paths("onnx")


def test_a_missing_file_or_format_is_reported(copied):
    (copied / "model.pt2").unlink()
    with pytest.raises(ValueError, match=r"model.pt2: missing from the bundle; copy the whole folder"):
        Bundle.read(copied).paths("pt2")
    with pytest.raises(ValueError, match=r"has no format 'int8'; it has onnx, torchscript, pt2, safetensors"):
        Bundle.read(copied).paths("int8")


@pytest.mark.fault(
    scenario="bundle that names files elsewhere", command="seg-pipeline predict, seg-pipeline serve", outcome="refused"
)
def test_no_file_outside_the_folder_is_read(copied):
    values = json.loads((copied / "bundle.json").read_text())
    values["networks"][0]["files"]["onnx"]["name"] = "../../etc/passwd"
    changed(copied, **values)
    with pytest.raises(ValueError, match=r"bundle/passwd: missing"):
        Bundle.read(copied).paths("onnx")


def test_one_threshold_or_one_per_class_is_accepted(bundle_folder):
    bundle = Bundle.read(bundle_folder)
    assert bundle.with_thresholds([0.3]).postprocessing.thresholds == (0.3, 0.3)
    assert bundle.with_thresholds([0.3, 0.6]).postprocessing.thresholds == (0.3, 0.6)
    with pytest.raises(ValueError, match="3 thresholds for 2 classes: box, disc"):
        bundle.with_thresholds([0.3, 0.6, 0.7])


def test_file_names_of_several_networks():
    assert [file_name("int8", number) for number in range(3)] == [
        "model.int8.onnx", "model_2.int8.onnx", "model_3.int8.onnx",
    ]  # fmt: skip
