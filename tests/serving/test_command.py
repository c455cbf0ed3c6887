"""The command's options, what it refuses to expose, and what it does not import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from seg_pipeline.serving.command import TOKEN_VARIABLE, check_exposure, main, make_parser, read_settings


def settings_of(*options: str, token: str | None = None):
    return read_settings(make_parser().parse_args(["--model", "bundle", *options]), token)


def test_options_become_settings():
    found = settings_of(
        "--workers-in-flight", "3", "--queue", "0", "--max-bytes", "5", "--max-pixels", "6", "--timeout", "7.5"
    )
    assert (found.workers, found.queue, found.max_bytes, found.max_pixels, found.timeout) == (3, 0, 5, 6, 7.5)
    assert settings_of("--allow-host", "a", "--allow-host", "b").hosts == ("a", "b")


def test_nothing_is_saved_unless_a_folder_is_named():
    assert (settings_of().save, settings_of().examples) == (None, None)
    found = settings_of("--save", "a/b", "--examples", "c")
    assert (found.save, found.examples) == (Path("a/b"), Path("c"))


def test_the_token_of_the_command_line_goes_before_the_variables():
    assert (settings_of(token="b").token, settings_of("--token", "a", token="b").token) == ("b", "a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers-in-flight", "0"], "`workers` must be at least 1, found 0"),
        (["--threads", "0"], "`threads` must be at least 1, found 0"),
        (["--timeout", "0"], "`timeout` must be more than 0 seconds, found 0.0"),
        (["--timeout", "nan"], "`timeout` must be more than 0 seconds, found nan"),
        (["--token", ""], "`token` must be non-empty printable ASCII text"),
    ],
)
def test_values_out_of_bounds_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        settings_of(*options)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_alone_needs_no_token(host):
    check_exposure(host, token=None, anyone=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "lab.example", ""])
def test_beyond_this_machine_a_token_or_a_clear_word_is_needed(host):
    with pytest.raises(
        ValueError, match=f"set a token .--token, or the variable {TOKEN_VARIABLE}., or pass --allow-anyone"
    ):
        check_exposure(host, token=None, anyone=False)
    check_exposure(host, token="a", anyone=False)
    check_exposure(host, token=None, anyone=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is reachable from other machines: set a token"),
        ([], "no bundle there"),
    ],
)
def test_the_command_says_what_is_wrong(capsys, tmp_path, monkeypatch, options, words):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "")  # set by the command: put back afterwards
    with pytest.raises(SystemExit) as ended:
        main(["--model", str(tmp_path), *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("code", ["import seg_pipeline.serving.command", "import seg_pipeline.serving.app"])
def test_neither_torch_nor_kedro_is_imported(code):
    ended = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    found = set(re.findall(r"^import time:.*\| +(\w+)", ended.stderr, re.MULTILINE))
    assert found & {"torch", "kedro", "mlflow", "matplotlib", "timm"} == set()
    assert ("fastapi" in found) == code.endswith("app")
