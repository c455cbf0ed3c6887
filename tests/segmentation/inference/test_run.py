import json
import re
import struct
import zlib
from dataclasses import replace
from threading import current_thread

import cv2
import fsspec
import numpy as np
import pandas as pd
import pytest
import tifffile

from seg_pipeline.segmentation.images.decoding import read_georeference, read_image, read_values
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.images.tiff import write_mask
from seg_pipeline.segmentation.inference import OutputSettings, find_images, predict_folder, prefetch, run
from seg_pipeline.segmentation.inference.prefetch import Reader, signature
from seg_pipeline.segmentation.inference.run import Writer
from seg_pipeline.segmentation.manifest.table import class_names
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor, Predictor
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.segmentation.settings.training import InputSettings
from seg_pipeline.segmentation.storage import locks

ALL = OutputSettings(formats=("masks", "overlays", "rle", "coco"))


@pytest.fixture(scope="module")
def predictor(bundle_folder):
    return Predictor(bundle_folder, threads=1)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        image = np.random.default_rng(number).integers(0, 256, (30 + 7 * number, 41), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_image_has_its_masks_at_its_own_size(images, predictor, tmp_path):
    out = tmp_path / "out"
    result = predict_folder(find_images(images)[0], predictor, out, settings=ALL)
    assert (result.num_new, len(result.areas), len(result.findings)) == (5, 10, 0)
    submission = pd.read_csv(out / "rle_masks.csv", keep_default_na=False, dtype=str).set_index(["id", "class"])[
        "predicted"
    ]
    for number in range(5):
        image = cv2.imread(str(images / f"{number}.png"), cv2.IMREAD_UNCHANGED)
        expected = predictor.masks(predictor.probabilities(image))
        for name, mask in zip(("box", "disc"), expected, strict=True):
            written = cv2.imread(str(out / "masks" / name / f"{number}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(written == 255, mask)
            np.testing.assert_array_equal(decode_rle(submission[str(number), name], image.shape, order="C"), mask)
    areas = pd.read_csv(out / "areas.csv", dtype={"image_id": str})
    assert areas["area"].tolist() == result.areas["area"].tolist()


@pytest.mark.parametrize("given", ["", "/**/*.png", "/0.png"])
def test_images_at_an_address_are_predicted_as_local_ones(images, predictor, tmp_path, given):
    (images / "0.png").rename(images / "0.PNG" if given == "/**/*.png" else images / "0.png")
    bucket, root = fsspec.filesystem("memory"), "memory://new-scans"
    bucket.store.clear()
    for file in images.iterdir():
        bucket.pipe(f"/new-scans/{file.name}", file.read_bytes())
    bucket.pipe("/new-scans/notes.txt", b"")
    local, _ = find_images(images)
    table, skipped = find_images(root + given)
    assert skipped == (given == "")
    assert table["path"].tolist() == [f"{root}/{file}" for file in table["file"]]
    assert table["image_id"].tolist() == (["0"] if given == "/0.png" else local["image_id"].tolist())
    predict_folder(local[local["image_id"].isin(table["image_id"])], predictor, tmp_path / "local", settings=ALL)
    predict_folder(table, predictor, tmp_path / "remote", settings=ALL)
    ours, theirs = contents(tmp_path / "remote"), contents(tmp_path / "local")
    differing = {name for name in ours if ours[name] != theirs[name]}
    assert set(ours) == set(theirs)
    assert differing <= {"images.jsonl"}  # it knows when a file changed
    assert predict_folder(table, predictor, tmp_path / "remote", settings=ALL).num_new == 0
    bucket.pipe("/new-scans/0.png", b"damaged")
    if given == "/0.png":
        assert predict_folder(table, predictor, tmp_path / "remote", settings=ALL).findings["image_id"].tolist() == [
            "0"
        ]
        with pytest.raises(ValueError, match=r"^memory://new-scans/masks: no image among its 0 files; image files end"):
            find_images(f"{root}/masks")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_broken_run_ends_as_a_whole_one(images, predictor, tmp_path, batch_size, monkeypatch):
    table = find_images(images)[0]
    predict_folder(table, predictor, tmp_path / "whole", settings=ALL, batch_size=batch_size)
    broken, true = tmp_path / "broken", Predictor.masks

    def breaks(self, probabilities):
        if probabilities.shape[1] == 44:  # the third image
            raise KeyboardInterrupt
        return true(self, probabilities)

    monkeypatch.setattr(Predictor, "masks", breaks)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(table, predictor, broken, settings=ALL, batch_size=batch_size)
    monkeypatch.undo()
    with (broken / "images.jsonl").open("a") as journal:
        journal.write('{"image_id": "2", "cut o')  # a line that a power cut left
    result = predict_folder(table, predictor, broken, settings=ALL, batch_size=batch_size)
    assert result.num_new == 3
    assert contents(broken) == contents(tmp_path / "whole")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_number_of_workers_changes_no_file(images, predictor, tmp_path, batch_size, monkeypatch):
    (images / "2.png").write_bytes(b"damaged")
    finished = []
    true = Writer.record
    monkeypatch.setattr(run, "MAX_PIXELS", 50 * 41)  # images 3 and 4 are finished in the main thread
    monkeypatch.setattr(Writer, "record", lambda *given: finished.append(current_thread().name) or true(*given))
    for workers in (0, 1, 3):
        options = {"settings": ALL, "batch_size": batch_size, "workers": workers}
        result = predict_folder(find_images(images)[0], predictor, tmp_path / f"{workers}", **options)
        assert result.findings["image_id"].tolist() == ["2"]
        assert contents(tmp_path / f"{workers}") == contents(tmp_path / "0")
    journal = (tmp_path / "3" / "images.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_id"] for line in journal] == list("01234")
    assert [name.startswith("image") for name in finished].count(True) == 2 * 3


@pytest.mark.fault(
    scenario="damaged line in the journal", command="seg-pipeline predict", outcome="that image is predicted again"
)
@pytest.mark.parametrize(
    "line",
    [
        b"\xff\n",
        b"[]\n",
        b'{"image_id": 3}\n',
        b'{"image_id": "3", "file": "3.png", "signature": [1, 2], "height": 5, "width": 6, "classes": {}}\n',
        b'{"image_id": "3", "file": "3.png", "signature": [1, 2], "rule": "x", "reason": null}\n',
        b'{"image_id": "3", "file": "3.png", "signature": [1, 2], "height": 0, "width": 6, "classes": {"box": '
        b'["", 0, null, 0.1], "disc": ["", 0, null, 0.1]}}\n',
        b'{"image_id": "3", "file": "3.png", "signature": [1, 2], "height": 5, "width": 6, "classes": {"box": '
        b'["", 31, null, 0.1], "disc": ["", 0, null, 0.1]}}\n',
    ],
)
def test_a_damaged_line_of_the_journal_is_an_image_to_predict(images, predictor, tmp_path, line):
    out, table = tmp_path / "out", find_images(images)[0]
    predict_folder(table, predictor, out, settings=ALL)
    whole = contents(out)
    lines = (out / "images.jsonl").read_bytes().splitlines(keepends=True)
    (out / "images.jsonl").write_bytes(b"".join([*lines[:3], line, *lines[4:]]))
    assert predict_folder(table, predictor, out, settings=ALL).num_new == 1
    assert contents(out)["areas.csv"] == whole["areas.csv"]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"model": 3, "output": {}}'])
def test_damaged_settings_of_a_run_are_named(images, predictor, tmp_path, content):
    out, table = tmp_path / "out", find_images(images)[0]
    predict_folder(table, predictor, out, settings=ALL)
    (out / "run.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"run\.json: is damaged, so this run cannot be resumed; choose another folder"
    ):
        predict_folder(table, predictor, out, settings=ALL)


@pytest.mark.fault(scenario="killed in its first write", command="seg-pipeline predict", outcome="can be repeated")
def test_a_run_killed_in_its_first_write_can_be_repeated(images, predictor, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".run.part0.json").write_text('{"model"')
    predict_folder(find_images(images)[0], predictor, out, settings=ALL)
    (out / "masks" / "box" / ".gone.part0.png").write_bytes(b"half")
    predict_folder(find_images(images)[0], predictor, out, settings=ALL)
    assert not [path for path in out.rglob(".*") if ".part" in path.name]


@pytest.mark.fault(
    scenario="line separator (U+2028) in a file name",
    command="seg-pipeline predict",
    outcome="resumes",
    review="serving 10",
)
def test_a_line_separator_in_a_name_does_not_cut_the_journal(images, predictor, tmp_path):
    (images / "0.png").rename(images / "a\u2028b\x85c.png")
    table = find_images(images)[0]
    predict_folder(table, predictor, tmp_path / "out", settings=ALL)
    result = predict_folder(table, predictor, tmp_path / "out", settings=ALL)
    assert (result.num_new, result.areas["image_id"].nunique()) == (0, 5)


def test_what_is_done_is_not_done_again_unless_it_changed(images, predictor, tmp_path):
    out = tmp_path / "out"
    table = find_images(images)[0]
    predict_folder(table, predictor, out, settings=ALL)
    assert predict_folder(table, predictor, out, settings=ALL).num_new == 0
    (out / "masks" / "disc" / "3.png").unlink()  # an output that is gone
    cv2.imwrite(str(images / "1.png"), np.zeros((20, 20), np.uint8))  # another image
    cv2.imwrite(str(images / "9.png"), np.zeros((20, 20), np.uint8))  # a new one
    result = predict_folder(find_images(images)[0], predictor, out, settings=ALL)
    assert (result.num_new, result.areas["image_id"].nunique()) == (3, 6)
    assert cv2.imread(str(out / "masks" / "box" / "1.png")).shape[:2] == (20, 20)


def test_another_model_or_setting_needs_another_folder(images, predictor, tmp_path):
    table = find_images(images)[0]
    predict_folder(table, predictor, tmp_path / "out", settings=OutputSettings(formats=("rle",)))
    with pytest.raises(
        ValueError, match=r"out: holds predictions of another run, which differs in output.formats; choose"
    ):
        predict_folder(table, predictor, tmp_path / "out", settings=ALL)
    with pytest.raises(ValueError, match=r"images: is not empty and holds no earlier run to resume; choose"):
        predict_folder(table, predictor, images, settings=ALL)


def bomb(height=60_000, width=60_000):
    """A PNG whose header claims to be a huge picture."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0" * 100


@pytest.mark.fault(
    scenario="damaged or hostile images",
    command="seg-pipeline predict",
    outcome="a finding each; the others are predicted",
    review="serving 4",
)
def test_bad_files_are_findings_with_reasons(images, predictor, tmp_path):
    whole = (images / "0.png").read_bytes()
    photo = cv2.imencode(".jpg", cv2.imread(str(images / "4.png")))[1].tobytes()
    bad = {
        "zero.png": b"", "text.png": b"hello", "cut.png": whole[: len(whole) // 2], "bomb.png": bomb(),
        "cut.jpg": photo[: len(photo) // 2], "renamed.tif": b"MM\0*" + b"\1" * 50,
    }  # fmt: skip
    for name, data in bad.items():
        (images / name).write_bytes(data)
    sized = find_images(images)[0].assign(height=30, width=41)
    sized = sized[sized["image_id"].isin(["0", "1"]) | sized["file"].isin(bad)]
    result = predict_folder(sized, predictor, tmp_path / "out", settings=ALL, batch_size=2)
    reasons = result.findings.set_index("image_id")["reason"]
    assert result.areas["image_id"].unique().tolist() == ["0"]
    assert len(reasons) == len(bad) + 1
    assert reasons["cut.png"].endswith("cut.png: truncated or damaged, cannot be decoded")
    assert reasons["cut.jpg"].endswith("cut.jpg: truncated or damaged, cannot be decoded")
    assert "60000 x 60000 pixels are more than the limit of 50,000,000" in reasons["bomb"]
    assert all("not an image, or its header is damaged" in reasons[name] for name in ("zero", "text", "renamed"))
    assert reasons["1"].endswith("1.png: image is 37 x 41 (height x width), the list says 30 x 41")
    written = pd.read_csv(tmp_path / "out" / "findings.csv")
    assert written["rule"].tolist() == result.findings["rule"].tolist()
    assert set(written["rule"]) == {"unreadable_image", "size_differs_from_list"}
    lines = [json.loads(line) for line in (tmp_path / "out" / "images.jsonl").read_text().splitlines()]
    assert len(lines) == len(sized)


def test_neighbouring_frames_come_from_the_list(mixed):
    """Frames 1, 2, 4 and 5 of a series; beyond its ends and the gap the nearest is repeated."""
    assert class_names(mixed) == ["left", "top"]
    reader = Reader(mixed.drop(columns=["height", "width"]), InputSettings(channels=(-1, 0, 1)))
    own = [reader.load(index).image for index in range(4)]
    seen = reader.load(1).network_input
    for found, expected in zip(seen, (own[0], own[1], own[1]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_neighbours_that_nobody_names_are_asked_for(images):
    with pytest.raises(ValueError, match=r"takes neighbouring frames, at the offsets \[-1, 0\]: pass a list of images"):
        Reader(find_images(images)[0], InputSettings(channels=(-1, 0)))


def test_new_images_are_read_as_the_models_were_and_the_manifests_as_it_says(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-10, 0, 10]], dtype=np.int16))
    settings = InputSettings(reading=ReadSettings(value_range=(-10, 10)))
    paths = [f"{tmp_path}/a.tif", f"{tmp_path}/a.tif?value_range=0,20"]
    table = pd.DataFrame({"image_id": ["a", "b"], "path": paths, "file": "a.tif"})
    reader = Reader(table, settings)
    assert [reader.load(index).image.tolist() for index in (0, 1)] == [[[0, 32768, 65535]], [[0, 0, 32768]]]
    assert signature(paths[1]) == signature(paths[0]) != (-1, -1)


def test_an_io_error_is_tried_again_by_the_next_run(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(prefetch, "read_image", fail)
    table = pd.DataFrame({"image_id": ["a"], "path": [f"{tmp_path}/a.png"], "file": "a.png"})
    loaded = Reader(table, InputSettings()).load(0)
    assert (loaded.finding.rule, loaded.finding.reason) == ("io_error", "[Errno 5] Input/output error")
    record = {"image_id": "a", "signature": (-1, -1)}
    writer = Writer(tmp_path, None, OutputSettings(formats=()))
    for rule, still in (("io_error", False), ("unreadable_image", True)):
        assert writer.is_up_to_date(record | {"rule": rule}, {"a": f"{tmp_path}/a.png"}) is still


@pytest.mark.fault(
    scenario="two predictions into one folder",
    command="seg-pipeline predict",
    outcome="the second names the first and stops",
    review="serving 11",
)
def test_two_processes_do_not_predict_into_one_folder(images, predictor, tmp_path, monkeypatch):
    out, table = tmp_path / "out", find_images(images)[0]
    predict_folder(table, predictor, out, settings=ALL)
    before = contents(out)
    monkeypatch.setattr(locks, "lock", lambda *_, **__: False)  # as if another process held it
    (out / ".lock").write_text("4711")
    message = (
        f"{out}/.lock: process 4711 is predicting into this folder; wait for it, stop it, or choose another folder"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        predict_folder(table, predictor, out, settings=ALL)
    assert contents(out) == before | {".lock": b"4711"}


KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)  # projected, pixel is area, UTM zone 33N
PLACE = [(33550, 12, 3, (0.5, 0.25, 0.0), True), (33922, 12, 6, (0, 0, 0, 400_000.0, 5_800_000.0, 0), True),
         (34735, 3, 16, KEYS, True), (34737, 2, 8, b"Caf\xe9 |x\0", True)]  # fmt: skip


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_masks_of_a_geotiff_lie_at_its_place(predictor, tmp_path, task, monkeypatch):
    monkeypatch.setattr(predictor, "bundle", replace(predictor.bundle, task=task))
    (tmp_path / "images").mkdir()
    image = np.random.default_rng(3).integers(0, 256, (40, 50), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "images/a.tif", image, extratags=PLACE)
    tifffile.imwrite(tmp_path / "images/b.tif", image)
    tifffile.imwrite(tmp_path / "images/turned.tif", image, extratags=[*PLACE, (274, 3, 1, 6, True)])
    table = find_images(tmp_path / "images")[0]
    predict_folder(table, predictor, tmp_path / "out", settings=ALL)
    folder = tmp_path / "out/masks" / ("box" if task == "multilabel" else "")
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", "b.png", "turned.png"]
    np.testing.assert_array_equal(read_values(folder / "a.tif"), read_values(folder / "b.png"))
    np.testing.assert_array_equal(read_image(folder / "a.tif"), read_image(folder / "b.png"))  # its colours
    with tifffile.TiffFile(folder / "a.tif") as tif:
        tags = tif.pages.first.tags
        assert [(code, tags[code].value) for code, *_ in PLACE[:3]] == [
            (code, value) for code, _, _, value, _ in PLACE[:3]
        ]
        assert b"Caf\xe9 |x\0" in (folder / "a.tif").read_bytes()
    assert predict_folder(table, predictor, tmp_path / "out", settings=ALL).num_new == 0
    (folder / "a.tif").unlink()
    assert predict_folder(table, predictor, tmp_path / "out", settings=ALL).num_new == 1


def test_gdal_reads_the_place_of_a_mask(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="rasterio, which reads with GDAL, is not installed")
    place = {
        "crs": rasterio.CRS.from_epsg(25832),
        "transform": rasterio.Affine(0.2, 0.01, 691_000, 0.01, -0.2, 5_334_000),
    }
    image = np.arange(30, dtype=np.uint8).reshape(1, 5, 6)
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 6, 5, 1, dtype="uint8", **place) as file:
        file.write(image)
    palette = np.array([[0, 0, 0], [230, 159, 0]], dtype=np.uint8)
    write_mask(tmp_path / "m.tif", image[0] % 2, read_georeference(tmp_path / "a.tif"), palette)
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert (mask.crs, mask.transform) == (place["crs"], place["transform"])
        assert mask.colormap(1)[1] == (230, 159, 0, 255)
        np.testing.assert_array_equal(mask.read(1), image[0] % 2)


def test_maps_of_a_single_network(images, predictor, tmp_path):
    settings = OutputSettings(formats=("uncertainty", "spread"))
    with pytest.raises(ValueError, match=r"`formats` has spread, .* but this model is a single network"):
        predict_folder(find_images(images)[0], predictor, tmp_path / "out", settings=settings)


def test_the_spread_of_folds_is_written(images, predictor, tmp_path):
    first, network = predictor.networks[0]
    both = ImagePredictor(predictor.bundle, [network])
    both.networks = [(first, network), (first, lambda batch: -network(batch))]
    predict_folder(find_images(images)[0][:1], both, tmp_path / "out", settings=OutputSettings(formats=("spread",)))
    image = cv2.imread(str(images / "0.png"), cv2.IMREAD_UNCHANGED)
    (logits,) = both.input_logits([image])
    written = cv2.imread(str(tmp_path / "out/spread/0.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, np.rint(255 * both.spread(*logits)))
    assert written.max() > 0
