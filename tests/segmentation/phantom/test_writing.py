"""The phantom: layout, make-up, faults on purpose, determinism, and that it is drawn as its masks say."""

import csv
import hashlib
import json
import logging
import re
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.phantom import CLASSES, RECORD, write_phantom, writing
from seg_pipeline.segmentation.phantom.drawing import draw_frame, make_series

SMALL = {"num_cases": 2, "days_per_case": 2, "frames_per_series": (4, 5), "size": 64, "other_size": (64, 80)}
NAME = re.compile(
    r"train/(case\d+)/(case\d+_day\d+)/scans/slice_(\d{4})_(?P<width>\d+)_(?P<height>\d+)_1\.50_1\.50\.png"
)


def read_table(folder: Path) -> list[list[str]]:
    """Rows without the header, as written."""
    with (folder / "train.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "class", "segmentation"]
    return rows


def read_record(folder: Path) -> dict:
    return json.loads((folder / RECORD).read_text())


def image_files(folder: Path) -> dict[str, Path]:
    """Path of each image by image_id."""
    paths = sorted(folder.glob("train/**/*.png"))
    names = [NAME.fullmatch(path.relative_to(folder).as_posix()) for path in paths]
    return {f"{name[2]}_slice_{name[3]}": path for name, path in zip(names, paths, strict=True)}


def clean_frames(folder: Path):
    """Image_id, image and masks (3, H, W) of every frame that is meant to be sound."""
    files, faults = image_files(folder), read_record(folder)["faults"]
    rows = read_table(folder)[: faults[0]["rows"][0] - 2] if faults else read_table(folder)
    for image_id, of_frame in groupby(rows, key=lambda row: row[0]):
        image = cv2.imread(str(files[image_id]), cv2.IMREAD_UNCHANGED)
        classes, rles = zip(*(row[1:] for row in of_frame), strict=True)
        assert classes == CLASSES == ("large_bowel", "small_bowel", "stomach")
        yield image_id, image, np.array([decode_rle(rle, image.shape, order="C") for rle in rles])


def digest(folder: Path) -> str:
    """Of all names and bytes below a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """The phantom of the default settings, about half a second's work."""
    folder = tmp_path_factory.mktemp("default") / "phantom"
    write_phantom(folder)
    return folder


@pytest.fixture(scope="module")
def frames(sample) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return list(clean_frames(sample))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "phantom"
    write_phantom(folder, **SMALL)
    return folder


def test_the_default_sample_is_made_up_as_promised(sample, frames):
    assert 230 <= len(frames) <= 270
    assert read_record(sample)["num_frames"] == len(frames) + 1 == len(image_files(sample))
    assert len({image_id.split("_")[0] for image_id, _, _ in frames}) == 14
    assert len({image_id.rpartition("_slice_")[0] for image_id, _, _ in frames}) == 28
    assert {len(list(run)) for _, run in groupby(frames, key=lambda one: one[0].rpartition("_")[0])} == {8, 9, 10}
    empty = np.mean([not masks.any() for _, _, masks in frames])
    assert 0.5 < empty < 0.65
    present = np.array([masks.any((1, 2)) for _, _, masks in frames]).sum(0)
    assert (present > 35).all()
    overlapping = np.mean([(masks.sum(0) > 1).any() for _, _, masks in frames])
    assert 0.01 < overlapping < 0.10


def test_the_first_number_of_a_name_is_the_width(frames, sample):
    files = image_files(sample)
    sizes = set()
    for image_id, image, _ in frames:
        name = NAME.fullmatch(files[image_id].relative_to(sample).as_posix())
        assert image.shape == (int(name["height"]), int(name["width"]))
        sizes.add((image_id.split("_")[0], image.shape))
    assert {case for case, shape in sizes if shape == (128, 144)} == {"case2", "case6", "case10", "case14"}
    assert {shape for _, shape in sizes} == {(128, 128), (128, 144)}


def test_days_begin_at_0_and_are_weeks_apart(sample):
    days = {}
    for path in sorted(sample.glob("train/*/*")):
        case, day = path.name.split("_day")
        days.setdefault(case, []).append(int(day))
    assert all(min(of_case) == 0 and 14 <= max(of_case) < 30 for of_case in days.values())
    assert len({max(of_case) for of_case in days.values()}) > 4


def test_brightness_is_16_bit_and_differs_between_cases(frames):
    peaks = {}
    for image_id, image, _ in frames:
        assert image.dtype == np.uint16
        peaks.setdefault(image_id.split("_")[0], []).append(int(image.max()))
    highest = [max(of_case) for of_case in peaks.values()]
    assert 2000 < min(highest) < 4500
    assert 9000 < max(highest) < 16000


def test_masks_are_whole_organs_inside_the_body(frames):
    for image_id, image, masks in frames:
        for name, mask in zip(CLASSES, masks, strict=True):
            assert not mask.any() or mask.sum() >= 40, (image_id, name)
        tissue = (cv2.GaussianBlur(image, (0, 0), 1.5) > 0.12 * np.percentile(image, 99)).astype(np.uint8)
        outlines, _ = cv2.findContours(tissue, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        body = np.zeros_like(tissue)
        cv2.drawContours(body, [max(outlines, key=cv2.contourArea)], -1, 1, thickness=-1)
        assert not (masks & (body == 0)).any(), image_id
        assert 0.2 < body.mean() < 0.75, image_id


def test_an_organ_is_on_consecutive_frames_of_every_series(frames):
    for series, run in groupby(frames, key=lambda one: one[0].rpartition("_")[0]):
        shown = np.array([masks.any((1, 2)) for _, _, masks in run])
        assert shown.any(0).all(), series
        changes = (shown[1:] != shown[:-1]).sum(0)
        assert (changes == 2).all(), series  # comes once and goes once: neither the first nor the last frame


def test_organs_change_smoothly_along_a_series():
    series = make_series(17, 3, 0, (96, 96), overlaps=False)
    stack = np.array([draw_frame(series, frame, 72)[1] for frame in range(72)])
    for organ in stack.swapaxes(0, 1):
        scores = [dice(one, other) for one, other in pairwise(organ) if one.any() and other.any()]
        assert np.median(scores) > 0.9
        assert min(scores) > 0.6  # a piece of bowel comes or goes


def test_organs_differ_between_cases_more_than_between_days():
    def masks_of(case: int, day: int) -> np.ndarray:
        series = make_series(17, case, day, (96, 96), overlaps=False)
        return draw_frame(series, 4, 9)[1][:2]  # the stomach may have ended here

    cases = [masks_of(case, 0) for case in range(1, 9)]
    days = [masks_of(case, 20) for case in range(1, 9)]
    between_days = np.mean([dice(one, other) for one, other in zip(cases, days, strict=True)])
    between_cases = np.mean([dice(one, other) for one, other in pairwise(cases)])
    assert between_cases < between_days - 0.05
    assert 0.5 < between_days < 0.9


def test_no_band_of_brightness_finds_an_organ(frames):
    images = np.concatenate([(image / image.max()).ravel() for _, image, _ in frames])
    bins = np.minimum((20 * images).astype(int), 19)
    for organ, name in enumerate(CLASSES):
        inside = np.concatenate([masks[organ].ravel() for _, _, masks in frames])
        hits = np.cumsum([0, *np.bincount(bins[inside], minlength=20)])
        found = np.cumsum([0, *np.bincount(bins, minlength=20)])
        bands = [(low, high) for low in range(20) for high in range(low + 1, 21)]
        best = max(2 * (hits[b] - hits[a]) / (found[b] - found[a] + hits[-1]) for a, b in bands)
        assert 0.02 < best < 0.4, name


def test_masks_follow_what_is_drawn(frames):
    """Gas and wall make bowel darker than its surroundings; mirrored masks would not find that."""
    darker, mirrored = [], []
    for _, image, masks in frames:
        large_bowel = masks[0]
        if large_bowel.any():
            darker.append(image[large_bowel].mean() / image[image > image.max() / 10].mean())
            mirrored.append(image[large_bowel[::-1]].mean() / image[image > image.max() / 10].mean())
    assert np.mean(darker) < 0.65
    assert np.mean(mirrored) > 0.85


def test_faults_are_those_recorded(small):
    rows, files = read_table(small), image_files(small)
    faults = {fault["kind"]: fault for fault in read_record(small)["faults"]}
    assert list(faults) == ["duplicate_row", "missing_class", "truncated_file", "missing_file"]
    clean = rows[: faults["duplicate_row"]["rows"][0] - 2]
    lines = {kind: [rows[line - 2] for line in fault["rows"]] for kind, fault in faults.items()}
    assert sum(len(of_kind) for of_kind in lines.values()) == len(rows) - len(clean) == 8

    assert lines["duplicate_row"][0] in clean
    assert lines["duplicate_row"][0][2] != ""
    ((image_id, no_class, rle),) = lines["missing_class"]
    assert (image_id, no_class) == (faults["missing_class"]["image_id"], "")
    assert rle == ""
    assert [row[1:] for row in lines["truncated_file"]] == [[name, ""] for name in CLASSES]
    assert [row[1] for row in lines["missing_file"]] == list(CLASSES)
    assert any(row[2] for row in lines["missing_file"])

    truncated, missing = faults["truncated_file"]["image_id"], faults["missing_file"]["image_id"]
    assert {row[0] for row in clean} == set(files) - {truncated}
    assert missing not in files
    assert files[truncated] == small / faults["truncated_file"]["file"]
    last_sound = files[clean[-1][0]]
    assert last_sound.read_bytes()[: last_sound.stat().st_size // 2] == files[truncated].read_bytes()
    assert len({tuple(row) for row in clean}) == len(clean) == 3 * (len(files) - 1)


def test_a_clean_phantom_is_the_dirty_one_without_its_faults(small, tmp_path):
    write_phantom(tmp_path / "clean", **SMALL, dirty=False)
    assert read_record(tmp_path / "clean")["faults"] == []
    assert read_table(tmp_path / "clean") == read_table(small)[:-8]
    dirty, clean = image_files(small), image_files(tmp_path / "clean")
    assert len(dirty) == len(clean) + 1
    assert all(path.read_bytes() == dirty[image_id].read_bytes() for image_id, path in clean.items())


def test_the_same_settings_give_the_same_bytes(small, tmp_path):
    write_phantom(tmp_path / "again", **SMALL, num_workers=2)
    write_phantom(tmp_path / "other", **SMALL, seed=18)
    assert digest(tmp_path / "again") == digest(small)
    other, first = image_files(tmp_path / "other"), image_files(small)
    assert other["case1_day0_slice_0001"].read_bytes() != first["case1_day0_slice_0001"].read_bytes()


def test_a_phantom_is_written_once_and_replaced_when_settings_change(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "phantom"
    write_phantom(folder, **SMALL)
    num_frames = len(image_files(folder))
    assert re.fullmatch(rf"made a phantom of {num_frames} frames at {folder} in \d+\.\d s", caplog.messages[0])
    before = folder.stat().st_ino
    write_phantom(folder, **SMALL)
    assert (len(caplog.messages), folder.stat().st_ino) == (1, before)
    write_phantom(folder, **SMALL, seed=3)
    assert read_record(folder)["settings"]["seed"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["phantom"]


def test_an_empty_folder_is_filled(tmp_path):
    write_phantom(tmp_path / "new" / "deep", **SMALL)
    (tmp_path / "empty").mkdir()
    write_phantom(tmp_path / "empty", **SMALL)
    assert digest(tmp_path / "empty") == digest(tmp_path / "new" / "deep")


@pytest.mark.parametrize("content", [None, "{}", "no json", '{"made_by": "me", "settings": {}}'])
def test_a_folder_of_someone_elses_is_refused_and_kept(tmp_path, content):
    (tmp_path / "case7.png").write_bytes(b"precious")
    if content is not None:
        (tmp_path / RECORD).write_text(content)
    number = 1 if content is None else 2
    with pytest.raises(ValueError, match="is not a phantom's folder") as caught:
        write_phantom(tmp_path, **SMALL)
    assert str(caught.value) == (
        f"{tmp_path} is not a phantom's folder: it holds {number} entries, such as 'case7.png', but no "
        "phantom.json written by this package. Choose a new or empty folder, or set `phantom: null` to read your "
        "own data"
    )
    assert (tmp_path / "case7.png").read_bytes() == b"precious"


@pytest.mark.fault(
    scenario="drawing of the sample breaks off",
    command="kedro run",
    outcome="nothing half-made is left; an earlier sample stays",
)
@pytest.mark.parametrize("there_before", [False, True])
def test_a_broken_off_write_leaves_nothing_half_made(tmp_path, monkeypatch, there_before):
    folder = tmp_path / "phantom"
    if there_before:
        write_phantom(folder, **SMALL)
        before = digest(folder)

    def stop_at_frame_2(series, frame, num_frames):
        if frame == 2:
            raise KeyboardInterrupt
        return draw_frame(series, frame, num_frames)

    monkeypatch.setattr(writing, "draw_frame", stop_at_frame_2)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(folder, **SMALL, seed=3)
    assert [path.name for path in tmp_path.iterdir()] == (["phantom"] if there_before else [])
    assert not there_before or digest(folder) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_cases": 0}, "num_cases must be at least 1, found 0"),
        ({"days_per_case": 0}, "days_per_case must be at least 1, found 0"),
        ({"frames_per_series": (0, 4)}, "the fewest frames_per_series must be at least 1, found 0"),
        ({"frames_per_series": (5, 4)}, "the most frames_per_series must be at least 5, found 4"),
        ({"size": 63}, "the smallest of size and other_size must be at least 64, found 63"),
        ({"other_size": (80, 60)}, "the smallest of size and other_size must be at least 64, found 60"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, setting, message):
    with pytest.raises(ValueError, match=f"^phantom: {message}$"):
        write_phantom(tmp_path / "phantom", **{**SMALL, **setting})
    assert not (tmp_path / "phantom").exists()
