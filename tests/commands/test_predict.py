"""The plain command in a process of its own, as a machine without torch and Kedro would run it."""

import os
import resource
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from seg_pipeline.commands.predict import main, make_parser

WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"kedro", "mlflow", "torch", "torchvision"}:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Refuse())
from seg_pipeline.__main__ import main
main()
"""
FORMATS = "masks,overlays,rle,coco"


def command(*arguments):
    return [sys.executable, "-c", WITHOUT, "predict", *map(str, arguments)]


def write_images(folder, number):
    folder.mkdir()
    rng = np.random.default_rng(number)
    for index in range(number):
        cv2.imwrite(str(folder / f"{index:03d}.png"), rng.integers(0, 256, (20 + index % 9, 31), dtype=np.uint8))
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.fault(scenario="killed in prediction", command="seg-pipeline predict", outcome="resumes to the same files")
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_200_images_killed_and_resumed_give_the_folder_of_an_unbroken_run(bundle_folder, tmp_path):
    images = write_images(tmp_path / "images", 200)
    (images / "100.png").write_bytes(b"text")
    given = [images, "--model", bundle_folder, "--threads", "1", "--formats", FORMATS, "--quiet", "--out"]
    assert main([*map(str, given), str(tmp_path / "whole")]) == 3
    out, lives = tmp_path / "broken", 0
    for wanted in (40, 130):
        running = subprocess.Popen(command(*given, out))
        journal = out / "images.jsonl"
        while not (journal.exists() and journal.read_text().count("\n") >= wanted):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        lives += journal.read_text().count("\n") < 200
    ended = subprocess.run(command(*given, out), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr, lives) == (3, "", 2)
    assert contents(out) == contents(tmp_path / "whole")
    assert len(contents(out)) == 199 * 3 + 7  # three files per image; tables, journal, settings and lock


@pytest.mark.fault(
    scenario="quota (RLIMIT_FSIZE)",
    command="seg-pipeline predict",
    outcome="one sentence, exit code 1; a repeat completes the folder",
    review="serving 11",
)
@pytest.mark.parametrize("largest", [300, 2500])
def test_a_full_disk_ends_with_one_sentence_and_a_repeat_completes(bundle_folder, tmp_path, capsys, largest):
    """2500 bytes hold the settings and some masks, and not the journal."""
    images = write_images(tmp_path / "images", 8)
    given = [str(images), "--model", str(bundle_folder), "--threads", "1", "--formats", FORMATS, "--quiet", "--out"]
    assert main([*given, str(tmp_path / "whole")]) == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        assert main([*given, str(tmp_path / "out")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seg-pipeline predict: [Errno 27] File too large")
    assert not [path for path in (tmp_path / "out").rglob(".*") if ".part" in path.name]
    assert main([*given, str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.fault(
    scenario="output folder cannot be created",
    command="seg-pipeline predict",
    outcome="one sentence, exit code 1",
    review="serving 11",
)
def test_an_output_folder_that_cannot_be_made_is_one_sentence(bundle_folder, tmp_path, capsys):
    images = write_images(tmp_path / "images", 1)
    (tmp_path / "file").write_text("mine")
    given = [str(images), "--model", str(bundle_folder), "--out", str(tmp_path / "file" / "out")]
    assert main(given) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"seg-pipeline predict: [Errno 20] Not a directory: '{tmp_path}/file/out'"


def test_the_summary_and_exit_codes(bundle_folder, tmp_path, capsys):
    images = write_images(tmp_path / "images", 2)
    given = [str(images), "--model", str(bundle_folder), "--threads", "1", "--out", str(tmp_path / "out")]
    assert main(given) == 0
    assert capsys.readouterr().out == f"2 of 2 images predicted, 2 of them now -> {tmp_path / 'out'}\n"
    (images / "bad.png").write_bytes(b"text")
    (images / "notes.md").write_text("x")
    assert main(given) == 3
    assert capsys.readouterr().out.splitlines() == [
        f"2 of 3 images predicted, 1 of them now -> {tmp_path / 'out'}",
        "1 file skipped: no known image suffix",
        "1 image could not be predicted (findings.csv):",
        f"  {images / 'bad.png'}: not an image, or its header is damaged",
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"images": "nowhere"}, "nowhere: no such file or folder"),
        ({"model": "nowhere"}, "nowhere: no bundle there (no bundle.json)"),
        (
            {"bundle-format": "int8"},
            "has no format 'int8'; it has onnx, torchscript, pt2, safetensors. Name it in `export.formats` and",
        ),
        ({"thresholds": "0.2,0.3,0.4"}, "3 thresholds for 2 classes: box, disc"),
    ],
)
def test_what_cannot_start_says_why(bundle_folder, tmp_path, capsys, changes, text):
    images = write_images(tmp_path / "images", 1)
    given = {"images": images, "model": bundle_folder, "out": tmp_path / "out"} | changes
    options = [part for name, value in given.items() if name != "images" for part in (f"--{name}", str(value))]
    assert main([str(given["images"]), *options]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("seg-pipeline predict: ")
    assert text in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--form", "int8", "this option is now called --bundle-format"),
        ("--formats", "masks,pdf", "'pdf' is unknown; choose from masks, overlays, uncertainty, spread, rle, coco"),
        ("--thresholds", "half", "'half': expected comma-separated numbers"),
        ("--thresholds", "1.5", "'1.5': thresholds must be between 0 and 1"),
        ("--overlap", "1", "'1': expected a number from 0 to 0.9"),
        ("--workers", "0", "'0': expected a whole number of at least 1"),
    ],
)
def test_wrong_usage_is_told(capsys, option, value, text):
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(["images", "--model", "m", "--out", "o", option, value])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_help_names_the_commands_before_kedros_options():
    variables = {**os.environ, "COLUMNS": "120"}
    line = [sys.executable, "-c", WITHOUT, "predict", "--help"]
    helped = subprocess.run(line, capture_output=True, text=True, check=True, env=variables).stdout
    assert "exit codes: 0 every image was predicted; 1 the command could not start" in helped
