"""Corrected masks on the server: what is written where, and what is refused."""

import io
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.serving.saving import safe_stem

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
BRIGHT = np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
DARK = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], dtype=bool)


@pytest.fixture
def saving(fake, tmp_path):
    """Posts an image and masks to a server that saves in ``saving.folder``."""

    def start(predictor=None):
        return fake.client(predictor or fake.Predictor(), save=folder)

    def post(client, data, masks, name="scan.png", **query):
        runs = masks if isinstance(masks, bytes) else json.dumps(masks).encode()
        files = {"image": (name, data), "masks": ("masks", runs)}
        return client.post("/api/save", files=files, params=query)

    folder = tmp_path / "corrected"
    return SimpleNamespace(folder=folder, start=start, post=post, files=lambda: list_files(folder))


def list_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def runs_of(bright=BRIGHT, dark=DARK):
    return {"bright": encode_rle(bright, order="C"), "dark": encode_rle(dark, order="C")}


def test_an_image_is_kept_with_a_mask_per_class(saving, fake):
    data = fake.file(GREY)
    with saving.start() as client:
        answer = saving.post(client, data, runs_of(), "../../a b\\größe (1).png")
    assert answer.json() == {"files": ["images/größe_1.png", "masks/bright/größe_1.png", "masks/dark/größe_1.png"]}
    assert saving.files() == sorted(answer.json()["files"])
    assert (saving.folder / "images/größe_1.png").read_bytes() == data
    read = cv2.imdecode(np.fromfile(saving.folder / "masks/bright/größe_1.png", np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, BRIGHT * 255)


def test_nothing_is_overwritten(saving, fake):
    with saving.start() as client:
        for bright in (BRIGHT, ~BRIGHT, BRIGHT):
            assert saving.post(client, fake.file(GREY), runs_of(bright)).json()["files"][0] == "images/scan.png"
        other = saving.post(client, fake.file(GREY + 1), runs_of())
        same_stem = saving.post(client, fake.file(GREY, "BMP"), runs_of())
    assert other.json()["files"] == ["images/scan_2.png", "masks/bright/scan_2.png", "masks/dark/scan_2.png"]
    assert same_stem.json()["files"][0] == "images/scan_3.bmp"
    shown = cv2.imread(str(saving.folder / "masks/bright/scan.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(shown, BRIGHT * 255)  # the last one
    earlier = [saving.folder / f".earlier/masks/bright/scan_{number}.png" for number in (1, 2)]
    counts = [int((cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0).sum()) for path in earlier]
    assert counts == [3, 9]


def test_one_indexed_mask_of_a_multiclass_model_and_its_classes(saving, fake):
    with saving.start(fake.Predictor(fake.MULTICLASS)) as client:
        answer = saving.post(client, fake.file(GREY), runs_of())
        overlapping = saving.post(client, fake.file(GREY), runs_of(dark=BRIGHT))
    assert answer.json()["files"] == ["images/scan.png", "masks/scan.png"]
    with Image.open(saving.folder / "masks/scan.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.array(mask), BRIGHT + 2 * DARK)
    assert (saving.folder / "classes.txt").read_text() == "bright\ndark\n"
    assert "masks overlap" in overlapping.json()["detail"]


def test_a_page_is_kept_alone(saving, fake):
    file = io.BytesIO()
    second = Image.fromarray(np.flipud(GREY))
    Image.fromarray(GREY).save(file, "TIFF", save_all=True, append_images=[second])
    with saving.start() as client:
        answer = saving.post(client, file.getvalue(), runs_of(), "stack.tif", page=2)
    assert answer.json()["files"][0] == "images/stack_page2.png"
    kept = cv2.imread(str(saving.folder / "images/stack_page2.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(kept, np.flipud(GREY))


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (b"no JSON", "must be JSON: run lengths by class name"),
        (b"[" * 5000, "must be JSON"),
        ({"bright": "1 2"}, "the classes are ['bright'], expected ['bright', 'dark']"),
        ({"bright": "12 2", "dark": ""}, "`masks`: "),  # beyond the last pixel
        ({"bright": "x", "dark": ""}, "`masks`: "),
    ],
)
def test_masks_that_do_not_fit_are_refused_and_leave_nothing(saving, fake, masks, words):
    with saving.start() as client:
        answer = saving.post(client, fake.file(GREY), masks)
    assert (answer.status_code, answer.json()["error"]) == (422, "masks")
    assert words in answer.json()["detail"]
    assert saving.files() == []


@pytest.mark.parametrize("runs", ["1 2", "x 1 1", "1 1000000000 1", "12 2 1", "4 1 1 2 1 1"])
def test_objects_that_do_not_fit_are_refused(saving, fake, runs):
    with saving.start(fake.Predictor(fake.OBJECTS)) as client:
        answer = saving.post(client, fake.file(GREY), {"bright": runs, "dark": ""})
        kept = saving.post(client, fake.file(GREY), {"bright": "2 1 7 3 1 8 7 1 7", "dark": ""})
    assert (answer.status_code, answer.json()["error"]) == (422, "masks")
    assert kept.json()["files"] == ["images/scan.png", "labelme/scan.json"]
    (first, second) = json.loads((saving.folder / "labelme/scan.json").read_text())["shapes"]
    assert (first["points"], second["points"]) == ([[1, 0], [2, 1]], [[2, 0], [2, 0]])


def test_a_server_without_the_option_cannot_save(client, fake):
    assert client.get("/api/model").json()["saves"] is False
    files = {"image": fake.file(GREY), "masks": b"{}"}
    assert client.post("/api/save", files=files).status_code == 404


def test_masks_of_too_many_runs_are_refused_before_they_are_read(saving, fake):
    with saving.start() as client:
        answer = saving.post(client, fake.file(GREY), b" " * 4_000_001)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "`masks` has 4,000,001 bytes; at most 4,000,000 are accepted",
    )
    assert saving.files() == []


def test_saving_needs_the_token_and_comes_from_this_page(fake, tmp_path):
    files = {"image": fake.file(GREY), "masks": json.dumps(runs_of()).encode()}
    bearer = {"Authorization": "Bearer secret"}
    with fake.client(fake.Predictor(), save=tmp_path / "kept", token="secret") as client:
        assert client.post("/api/save", files=files).status_code == 401
        assert client.get("/api/examples/0").status_code == 401
        foreign = client.post("/api/save", files=files, headers={**bearer, "Origin": "http://evil.example"})
        assert foreign.status_code == 403
        assert client.post("/api/save", files=files, headers=bearer).status_code == 200


def test_a_folder_of_other_classes_is_refused(saving, fake):
    saving.folder.mkdir()
    (saving.folder / "classes.txt").write_text("cat\n")
    with pytest.raises(ValueError, match=r"holds masks of other classes \(classes.txt\); choose another folder"):
        fake.app(fake.Predictor(fake.MULTICLASS), save=saving.folder)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/b.c.png", "b_c"), ("..", "image_"), ("NUL.png", "image_NUL"), (".hidden", "image_"), ("x" * 99, "x" * 80)],
)
def test_names_are_made_safe(name, stem):
    assert safe_stem(name) == stem


def test_examples_are_those_of_the_folder(fake, tmp_path):
    (tmp_path / "b.png").write_bytes(fake.file(GREY))
    (tmp_path / "notes.txt").write_text("no image")
    with fake.client(fake.Predictor(), examples=tmp_path) as client:
        assert client.get("/api/model").json()["examples"] == ["b.png"]
        assert client.get("/api/examples/0").content == fake.file(GREY)
        assert client.get("/api/examples/1").json()["error"] == "no_example"
        assert client.get("/api/examples/..%2f0").status_code == 404
