"""The measuring tool: turns, medians, verdict, exit code, memory of a child."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


side_by_side = load("side_by_side")
page = load("__main__")


@pytest.mark.slow
def test_the_two_take_turns_after_one_call_each():
    calls = []
    side_by_side.compare("turns", lambda: calls.append("a"), lambda: calls.append("b"), limit=9, runs=2)
    assert "".join(calls) == "ab" + "abab"


@pytest.mark.slow
def test_a_single_run_is_not_warmed_up():
    calls = []
    side_by_side.compare("once", lambda: calls.append("a"), lambda: calls.append("b"), limit=9, runs=1)
    assert calls == ["a", "b"]


@pytest.mark.parametrize(("limit", "ok"), [(0.5, True), (0.49, False)])
def test_the_ratio_of_medians_is_held_against_the_limit(limit, ok):
    result = side_by_side.judge("half", [1.0, 2.0, 9.0], [4.0, 3.0, 5.0], limit=limit)
    assert (result.median_a, result.median_b, result.ratio, result.ok, result.runs) == (2, 4, 0.5, ok, 3)


@pytest.mark.parametrize(("a", "code"), [(1.0, 0), (3.0, 1)])
def test_report_prints_a_json_object_a_line_and_tells_by_its_exit_code(capsys, a, code):
    results = [side_by_side.judge("one", [a], [2.0], limit=1), side_by_side.Skipped("gpu", "no CUDA device")]
    assert side_by_side.report(*results) == code
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert {"name", "ratio", "limit", "ok", "median_a", "median_b", "runs"} <= set(first)
    assert second == {"name": "gpu", "skipped": "no CUDA device"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no module resource")
def test_peak_memory_is_the_childs():
    bare = side_by_side.peak_mib("pass")
    assert 90 < side_by_side.peak_mib("x = b'1' * (100 << 20)") - bare < 120
    with pytest.raises(RuntimeError, match="ended with 3"):
        side_by_side.peak_mib("raise SystemExit(3)")


def benchmark(folder, name, ratio):
    """A script that prints a row and one that it cannot measure."""
    row = {"name": "decode", "ratio": ratio, "limit": 0.05, "ok": ratio <= 0.05, "median_a": 1, "median_b": 50}
    rows = [{**row, "runs": 5, "unit": "s", "note": "1,000 masks"}, {"name": "gpu", "skipped": "no CUDA device"}]
    printed = "\n".join(map(json.dumps, rows))
    code = f"print({printed!r}); raise SystemExit({int(ratio > 0.05)})"
    (folder / f"{name}.py").write_text(f'"""Run lengths\nagainst a loop.\n\nMore."""\n{code}\n')


def test_chosen_benchmarks_renew_their_sections_of_the_page(tmp_path, monkeypatch, capfd):
    written = tmp_path / "benchmarks.md"
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    monkeypatch.setattr(page, "PAGE", written)
    for name in ("rle", "tables"):
        benchmark(tmp_path, name, 0.02)
    assert page.main([]) == 0
    first = written.read_text()
    assert first.startswith("# Benchmarks\n")
    assert "\n## rle\n\nRun lengths against a loop.\n\n| benchmark |" in first
    assert first.count("| `decode`: 1,000 masks | 1 s | 50 s | 0.02 | 0.05 | 5 |") == 2
    assert "\n\n- `gpu` was not measured: no CUDA device\n\n*" in first
    assert " cores, " in first
    benchmark(tmp_path, "rle", 0.07)
    assert page.main(["rle"]) == 1
    second = written.read_text()
    assert second == first.replace("| 0.02 | 0.05 |", "| 0.07 **over** | 0.05 |", 1)
    with pytest.raises(SystemExit, match="no benchmark speed; there are rle, tables"):
        page.main(["speed"])


def test_a_benchmark_that_breaks_off_is_named(tmp_path, capfd):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit(7)")
    assert page.run(script) == ([{"name": "broken", "failed": "ended with 7 before it finished"}], 7)
