"""What a picture is answered with: numbers worked by hand on 2 x 3 pixels."""

import base64
import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.segmentation.settings.training import InputSettings

GREY = np.array([[255, 204, 51], [0, 102, 153]], dtype=np.uint8)  # brightness 1, 0.8, 0.2 / 0, 0.4, 0.6


def post(client, data: bytes, name: str = "scan.png", **query):
    return client.post("/api/predict", files={"image": (name, data)}, params=query)


def decoded(part: dict) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(part["data"]), np.uint8), cv2.IMREAD_UNCHANGED)


def test_json_has_the_numbers_of_each_class(client, fake):
    answer = post(client, fake.file(GREY)).json()
    assert answer["image"] == {
        "file": "scan.png",
        "format": "PNG",
        "height": 2,
        "width": 3,
        "bits": 8,
        "channels": 1,
        "page": 1,
        "pages": 1,
        "spacing": None,
        "value_range": None,
    }
    assert answer["network_ms"] >= 0
    bright, dark = answer["classes"]
    assert (bright["name"], bright["colour"], bright["threshold"]) == ("bright", "#e69f00", 0.5)
    assert (bright["area"], bright["share"], bright["rle"]) == (3, 0.5, "1 2 6 1")
    assert bright["confidence"] == pytest.approx((1 + 0.8 + 0.6) / 3)
    assert (bright["peak"], dark["peak"]) == (1, 1)
    assert (dark["area"], dark["rle"]) == (3, "3 3")
    assert answer["task"] == "multilabel"
    assert answer["display"] is bright["probabilities"] is None


@pytest.mark.parametrize(
    ("threshold", "areas"),
    [([0.7], (2, 2)), ([0.1, 0.9], (5, 1)), ([0.1], (5, 5))],  # the last: classes may overlap
)
def test_thresholds_are_one_for_all_or_one_a_class(client, fake, threshold, areas):
    classes = post(client, fake.file(GREY), threshold=threshold).json()["classes"]
    assert tuple(one["area"] for one in classes) == areas
    assert [one["threshold"] for one in classes] == (threshold * 2)[:2]


def test_an_empty_mask_has_no_confidence(client, fake):
    bright = post(client, fake.file(np.zeros((2, 3), np.uint8))).json()["classes"][0]
    assert (bright["area"], bright["rle"], bright["confidence"], bright["peak"]) == (0, "", None, 0)


def test_the_mask_of_overlapping_classes_lies_one_below_another(client, fake):
    answer = post(client, fake.file(GREY), response_format="mask", threshold=[0.5])
    assert answer.headers["content-type"] == "image/png"
    assert answer.content[24] == 1  # bits a pixel
    mask = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    expected = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 1, 0]]) * 255
    np.testing.assert_array_equal(mask, expected)


def test_the_mask_of_exclusive_classes_is_an_indexed_png(fake):
    with fake.client(fake.Predictor(fake.MULTICLASS)) as client:
        answer = client.post("/api/predict", files={"image": fake.file(GREY)}, headers={"Accept": "image/png"})
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "P"
    # 0.7 is the probability of no class, before all are divided by the same
    np.testing.assert_array_equal(np.array(image), [[1, 1, 2], [2, 0, 0]])
    assert image.getpalette()[:9] == [0, 0, 0, 0xE6, 0x9F, 0x00, 0x56, 0xB4, 0xE9]


def test_a_multiclass_answer_leaves_the_background_out(fake):
    with fake.client(fake.Predictor(fake.MULTICLASS)) as client:
        answer = post(client, fake.file(GREY), include=["probabilities"]).json()
        refused = post(client, fake.file(GREY), threshold=[0.5])
    bright, dark = answer["classes"]
    assert (bright["area"], dark["area"], bright["threshold"]) == (2, 2, None)
    np.testing.assert_array_equal(decoded(bright["probabilities"]), np.rint(GREY / 1.7))
    assert (refused.status_code, refused.json()["error"]) == (422, "no_thresholds")


def test_the_form_goes_before_accept(client, fake):
    body = {"image": fake.file(GREY)}
    answer = client.post("/api/predict?response_format=json", files=body, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "application/json"


def test_probabilities_are_8_bits(client, fake):
    bright, dark = post(client, fake.file(GREY), include=["probabilities"]).json()["classes"]
    np.testing.assert_array_equal(decoded(bright["probabilities"]), GREY)
    np.testing.assert_array_equal(decoded(dark["probabilities"]), 255 - GREY)


def test_16_bits_are_shown_from_percentile_to_percentile(client, fake):
    dim = np.linspace(1000, 1400, 6).astype(np.uint16).reshape(2, 3)
    answer = post(client, fake.file(dim), include=["display"]).json()
    assert answer["image"]["bits"] == 16
    shown = decoded(answer["display"])
    assert shown.shape == (2, 3, 3)
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_large_display_is_a_jpeg(client, fake):
    answer = post(client, fake.file(np.zeros((1100, 1000), np.uint8)), include=["display"]).json()
    assert answer["display"]["type"] == "image/jpeg"
    assert decoded(answer["display"]).shape == (1100, 1000, 3)


def test_colour_is_shown_in_its_order(client, fake):
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 200
    shown = decoded(post(client, fake.file(red), include=["display"]).json()["display"])
    np.testing.assert_array_equal(shown[0, 0], [0, 0, 200])  # OpenCV reads blue first


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ({"response_format": "pdf"}, "query", "`response_format`: Input should be 'json' or 'mask'"),
        ({"threshold": [1.5]}, "query", "`threshold.0`: Input should be less than or equal to 1"),
        ({"threshold": [0.5, 0.5, 0.5]}, "thresholds", "must be given once or 2 times (once per class), found 3"),
        ({"include": ["all"]}, "query", "`include.0`: Input should be 'probabilities', "),
    ],
)
def test_a_query_that_does_not_fit_is_refused(client, fake, query, error, words):
    answer = post(client, fake.file(GREY), **query)
    assert (answer.status_code, answer.json()["error"]) == (422, error)
    assert words in answer.json()["detail"]


def test_the_model_tells_what_it_finds_and_takes(client):
    model = client.get("/api/model").json()
    assert model["classes"][1] == {"name": "dark", "colour": "#56b4e9", "threshold": 0.5, "folder": "dark"}
    assert model["limits"] == {
        "formats": ["PNG", "JPEG", "TIFF", "WebP", "BMP", "DICOM"],
        "max_bytes": 20_000_000,
        "max_pixels": 16_777_216,
    }
    assert (model["task"], model["background"], model["input"]["size"]) == ("multilabel", False, [32, 64])
    assert model["provenance"] == {"models": [{"best": {"val_dice": 0.9}, "weights_sha256": 64 * "f"}]}


def test_a_turned_photo_is_answered_upright(client):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(file, "PNG", exif=exif)
    answer = post(client, file.getvalue()).json()
    assert (answer["image"]["height"], answer["image"]["width"]) == (3, 2)
    assert answer["classes"][0]["rle"] == encode_rle(np.rot90(GREY, -1) > 127, order="C")


def test_uploads_are_read_as_the_models_images_were(fake):
    file = io.BytesIO()
    tifffile.imwrite(file, (GREY.astype(np.float32) - 100) / 10)
    settings = InputSettings(reading=ReadSettings(value_range=(-10, 15.5)))
    bundle = replace(fake.MULTICLASS, background=False, task="multilabel", input=settings)
    bundle = replace(bundle, postprocessing=Postprocessing.none(2, 0.5))
    with fake.client(fake.Predictor(bundle)) as client:
        answer = post(client, file.getvalue()).json()
    assert (answer["image"]["bits"], answer["classes"][0]["rle"]) == (16, "1 2 6 1")
    assert answer["image"]["value_range"] == [-10, 15.5]  # so that the page can show a level in them
    with fake.client(fake.Predictor()) as client:
        refused = post(client, file.getvalue())
    assert (refused.status_code, "pixels are float32" in refused.json()["detail"]) == (422, True)


def test_objects_are_numbered_and_the_spread_needs_several_networks(fake):
    with fake.client(fake.Predictor(fake.OBJECTS, networks=3)) as client:
        answer = post(client, fake.file(GREY), include="spread").json()
        facts = client.get("/api/model").json()
    assert (facts["objects"], facts["networks"]) == (True, 3)
    assert answer["classes"][0]["objects"] == "1 1 3 2 1 2 6 1 1"  # three grey values above a half
    np.testing.assert_array_equal(decoded(answer["spread_map"]), [[0, 128, 255]] * 2)
    with fake.client(fake.Predictor()) as client:
        refused = post(client, fake.file(GREY), include="spread")
        assert post(client, fake.file(GREY)).json()["classes"][0]["objects"] is None
    assert refused.status_code == 422
    assert refused.json()["detail"] == "this model is a single network: remove `include=spread`"
