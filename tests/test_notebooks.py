"""The notebooks run from top to bottom on what the pipelines left, and hold no outputs in git."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RELOAD = "%reload_kedro"


def read(path: Path):
    return nbformat.read(path, as_version=4)


def codes(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["01_explore_data.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_neither_outputs_nor_definitions(path):
    for cell in codes(read(path)):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert "def " not in cell.source
        assert "lambda" not in cell.source


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """``--env`` and ``--params`` of a finished data_processing and eda."""
    folder = tmp_path_factory.mktemp("explored")
    params = f"data_root={folder / 'out'},raw_root={folder / 'raw'},tracking.enabled=false"
    given = ["--env", "smoke", "--params", params]
    command = [sys.executable, "-m", "kedro", "run", "--pipelines", "data_processing,eda", *given]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return f"--env smoke --params {params}"


@pytest.mark.slow
def test_the_data_notebook_shows_every_figure_of_the_catalog(explored, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = read(ROOT / "notebooks" / "01_explore_data.ipynb")
    first = codes(notebook)[0]
    assert RELOAD in first.source
    first.source = first.source.replace(RELOAD, f"{RELOAD} {explored}")
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    shown = [kind for cell in codes(notebook) for output in cell.outputs for kind in output.get("data", {})]
    # sheet, 5 charts, splits, memory, and two drawn on the spot
    assert shown.count("image/png") == 10
    assert shown.count("image/gif") == 1
    assert shown.count("application/vnd.plotly.v1+json") == 1
    text = "".join(output.get("text", "") for cell in codes(notebook) for output in cell.outputs)
    assert "distance" in text
    assert "kept in memory" in text
