"""What is refused, with which status and words; and that nothing is written."""

import base64
import contextlib
import io
import struct
import sys
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.serving import image_checks
from seg_pipeline.serving.image_checks import check_upload, detect_format
from seg_pipeline.serving.schema import RequestError

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # of odd tags and sizes; the command ignores them too
NOISE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def as_bytes(form: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, form, **options)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """Few bytes, with a sound header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


PNG = as_bytes("PNG")
PAGES = as_bytes("TIFF", save_all=True, append_images=[Image.fromarray(NOISE)])
GIF = as_bytes("GIF")


def post(client, data: bytes, name: str = "scan.png", media_type: str = "image/png"):
    return client.post("/api/predict", files={"image": (name, data, media_type)})


@pytest.mark.parametrize(
    ("data", "status", "error", "words"),
    [
        (b"", 400, "empty_file", "scan.png: the file is empty (0 bytes)"),
        (
            b"hello\nworld",
            415,
            "not_an_image",
            "scan.png: this is text; send a PNG, JPEG, TIFF, WebP, BMP or DICOM file",
        ),
        (GIF, 415, "not_an_image", "scan.png: this is a GIF;"),
        (b"%PDF-1.7\n", 415, "not_an_image", "this is a PDF;"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', 415, "not_an_image", "this is an SVG;"),
        (b"<!DOCTYPE html><p>", 415, "not_an_image", "this is a web page;"),
        (bytes(128) + b"DICM", 422, "damaged", "its header cannot be read"),
        (b"\x1f\x8b\x08" + bytes(20), 415, "not_an_image", "a gzip file (a NIfTI volume?)"),
        (bytes(40), 415, "not_an_image", "this is not a known image format;"),
        (PNG[: len(PNG) // 2], 422, "damaged", "scan.png: truncated or damaged, cannot be decoded"),
        (PNG[:14], 422, "damaged", "scan.png: truncated or damaged"),
        (PNG[:33] + b"\xff" + PNG[34:], 422, "damaged", "truncated or damaged"),  # OpenCV would take 4 GB for it
        (PNG[:33] + bytes(12) * 100_001 + PNG[33:], 422, "damaged", "truncated or damaged"),
        (as_bytes("JPEG")[:-100], 422, "damaged", "truncated or damaged"),
        (as_bytes("TIFF")[:-100], 422, "damaged", "truncated or damaged"),
        (as_bytes("WEBP")[:-100], 422, "damaged", "truncated or damaged"),
        (as_bytes("BMP")[:-100], 422, "damaged", "truncated or damaged"),
        (PAGES, 422, "several_images", "contains 2 images; send one image per file, or choose one with `page`"),
        (
            png_that_claims(5000, 4000),
            413,
            "image_too_large",
            "5,000 x 4,000 pixels exceed this server's limit of 16,777,216",
        ),
        (png_that_claims(60000, 60000), 413, "image_too_large", "60,000 x 60,000 pixels exceed"),
        (png_that_claims(0, 7), 422, "damaged", "its header cannot be read"),
    ],
)
def test_each_bad_file_is_refused_with_its_status_and_words(client, capfd, data, status, error, words):
    answer = post(client, data)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_the_contents_decide_whatever_the_name_says(client, form):
    answer = post(client, as_bytes(form), "photo.jpg", "text/plain")
    assert answer.status_code == 200
    expected = {"format": "WebP" if form == "WEBP" else form, "height": 20, "width": 30, "bits": 8, "channels": 3}
    assert expected.items() <= answer.json()["image"].items()


def test_too_many_bytes_are_refused_whether_or_not_their_number_is_declared(fake):
    with fake.client(fake.Predictor(), max_bytes=50_000) as client:
        declared = post(client, bytes(70_000))
        body = b"--x\r\n" + b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + bytes(70_000)
        chunks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
        streamed = client.post(
            "/api/predict", content=chunks, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        within_the_forms_room = post(client, bytes(50_001))
    for answer in (declared, streamed, within_the_forms_room):
        assert (answer.status_code, answer.json()["error"]) == (413, "file_too_large")
        assert answer.json()["detail"] == "the file exceeds this server's limit of 50,000 bytes"


@pytest.mark.parametrize(
    ("content", "media_type", "status", "error"),
    [
        (PNG, "image/png", 415, "not_a_form"),
        (PNG, "multipart/form-data", 400, "broken_form"),  # no boundary
        (b"nonsense", "multipart/form-data; boundary=x", 400, "broken_form"),
        (b"--x\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x", 400, "broken_form"),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            400,
            "not_one_file",
        ),
        (  # broken off: what came is not taken for the whole
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + PNG,
            "multipart/form-data; boundary=x",
            400,
            "broken_form",
        ),
    ],
)
def test_other_bodies_are_refused(client, content, media_type, status, error):
    answer = client.post("/api/predict", content=content, headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_of_two_files_none_is_left_out_silently(client):
    answer = client.post("/api/predict", files=[("image", PNG), ("image", PNG)])
    assert answer.status_code == 400
    assert answer.json()["detail"] == "the form must contain exactly one file in `image`, found 2"


def test_nothing_is_written_to_disk(client, fake):
    """4 MB: Starlette's own form reader would go on in a temporary file after 1 MB."""
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), dtype=np.uint8)
    data, written, watching = fake.file(noise), [], False

    def watch(event: str, arguments: tuple) -> None:  # a hook stays as long as the process: it sleeps afterwards
        if watching and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            written.append(arguments[0])
        if watching and event.startswith("tempfile."):
            written.append(event)

    sys.addaudithook(watch)
    assert len(data) > 4_000_000
    watching = True
    answer = post(client, data)
    watching = False
    assert answer.status_code == 200
    assert written == []


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "WebP"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "not a known image format"),
        (b"MM\x00\x2a", "TIFF"),
        (b"  <svg>", "an SVG"),
        ("Grüße".encode(), "text"),
        (b"\x00\x00\x00\x18ftypheic", "a HEIC or AVIF image"),
    ],
)
def test_the_first_bytes_tell_the_kind(data, kind):
    assert detect_format(data) == kind


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(form=st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "BMP"]), data=st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused(capfd, form, data):
    whole = bytearray(as_bytes(form))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, min(len(whole), 400) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RequestError):  # whatever else is raised would be answered with 500
        picture = check_upload("a", bytes(whole), max_pixels=1_000_000)
        assert picture.decode(ReadSettings()).pixels.shape[:2] == (picture.height, picture.width)


def test_many_pages_are_refused_without_reading_their_headers(monkeypatch):
    """9,000 pages in 700 kB took a second each time."""
    frames = [Image.fromarray(NOISE)] * 17
    file = io.BytesIO()
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(image_checks, "read_header", lambda *_: pytest.fail("read the headers"))
    with pytest.raises(RequestError, match="a: contains 17 images; send one image per file") as refused:
        check_upload("a", file.getvalue(), max_pixels=1000)
    assert refused.value.status == 422


def test_a_page_of_a_tiff_is_chosen_and_tells_its_number(client):
    file = io.BytesIO()
    pages = [Image.fromarray(np.full((3, 4), value, dtype=np.uint8)) for value in (0, 255)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    answers = [client.post("/api/predict?page=" + page, files={"image": file.getvalue()}) for page in "123"]
    assert [one.json()["classes"][0]["area"] for one in answers[:2]] == [0, 12]  # bright pixels
    assert [one.json()["image"]["page"] for one in answers[:2]] == [1, 2]
    assert answers[0].json()["image"]["pages"] == 2
    assert (answers[2].status_code, answers[2].json()["error"]) == (422, "no_page")
    assert answers[2].json()["detail"] == "upload: page 3 does not exist, the file has 2"


def dicom_client(fake, **settings):
    bundle = fake.Predictor().bundle
    return fake.client(fake.Predictor(replace(bundle, input=replace(bundle.input, **settings))))


def test_dicom_is_read_with_its_spacing_and_unit(fake):
    values = np.array([[0, 1024, 65535 - 7], [5, 1, 2]], dtype=np.uint16)
    with dicom_client(fake, normalisation="percentile") as client:
        answer = client.post("/api/predict?include=values", files={"image": fake.dicom(values, intercept=-1024)}).json()
    assert answer["image"] | {"file": ""} == {
        "file": "",
        "format": "DICOM",
        "height": 2,
        "width": 3,
        "bits": 16,
        "channels": 1,
        "page": 1,
        "pages": 1,
        "spacing": [0.5, 2],
        "value_range": [-1024, 64511],  # Hounsfield units
    }
    assert [(one["area"], one["area_mm2"]) for one in answer["classes"]] == [(1, 1), (5, 5)]
    packed = cv2.imdecode(np.frombuffer(base64.b64decode(answer["values"]["data"]), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(packed[..., 2] * np.uint16(256) + packed[..., 1], values)


def test_dicom_values_that_the_model_cannot_interpret_are_refused(fake):
    data = fake.dicom(np.array([[0, 1024], [5, 1]]), intercept=-1024)
    with dicom_client(fake, normalisation="fixed", window=(0, 100)) as client:
        refused = client.post("/api/predict", files={"image": ("ct.dcm", data)})
        whole = client.post("/api/predict", files={"image": fake.dicom(np.array([[0, 1024], [5, 1]]))})
    assert (refused.status_code, whole.status_code) == (422, 200)
    assert refused.json()["detail"].startswith("ct.dcm: its values begin at -1024, and this model normalises by stored")
    reading = ReadSettings(value_range=(-1024, 3071))
    with dicom_client(fake, normalisation="fixed", window=(0, 100), reading=reading) as client:
        image = client.post("/api/predict", files={"image": data}).json()["image"]
    assert image["value_range"] == [-1024, 3071]


def test_a_frame_of_a_dicom_file_is_chosen(client, fake):
    frames = np.stack([np.zeros((2, 3)), np.full((2, 3), 65535)])
    answer = client.post("/api/predict?page=2", files={"image": fake.dicom(frames)}).json()
    assert (answer["image"]["pages"], answer["classes"][0]["area"]) == (2, 6)
    assert client.post("/api/predict", files={"image": fake.dicom(frames)}).json()["error"] == "several_images"


@pytest.mark.parametrize("cut", [140, 300, -3])
def test_a_damaged_dicom_file_is_refused(client, fake, cut):
    answer = client.post("/api/predict", files={"image": fake.dicom(np.ones((4, 5)))[:cut]})
    assert (answer.status_code, answer.json()["error"]) == (422, "damaged")
