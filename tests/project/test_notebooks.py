"""The notebooks run from top to bottom, on what the pipelines left or alone, and hold no outputs in git.

Jupyter's packages take over three seconds to import, so only the process that runs these tests imports them.
"""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # mlflow on SQLAlchemy 2.1
]

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RELOAD, OTHER = "%reload_kedro", 'context.project_path / "data/other"'


def read(path: Path):
    import nbformat

    return nbformat.read(path, as_version=4)


def codes(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == [
        "01_explore_data.ipynb",
        "02_datasets_and_augmentation.ipynb",
        "03_train_and_search_by_hand.ipynb",
        "04_read_results.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_neither_outputs_nor_definitions(path):
    for cell in codes(read(path)):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert not re.search(r"\b(def|class|lambda)\s", cell.source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_page_of_a_notebook_shows_its_cells_and_pictures(path):
    page = (ROOT / "docs" / "notebooks" / f"{path.stem}.md").read_text()
    place = 0
    for cell in read(path).cells:
        text = cell.source.replace("](../docs/", "](../").rstrip(";")
        found = page.find(text, place)
        assert found >= 0, f"run docs/_site/notebooks.py {path.stem}: the page has not, in this order, {text!r}"
        place = found + len(text)
    pictures = re.findall(r"!\[[^]]+\]\(\.\./(images/[^)]+)\)", page)
    assert pictures
    assert all((ROOT / "docs" / one).stat().st_size < 120_000 for one in pictures)


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if RELOAD in path.read_text()], ids=lambda path: path.stem)
def test_a_notebook_without_its_data_says_what_to_run(path):
    _, check, *_ = codes(read(path))
    command = re.search(r"(?:run|finish a) (`kedro run[^`]*`)", read(path).cells[0].source).group(1)
    exec(check.source, {"catalog": SimpleNamespace(exists=lambda _: True)})
    with pytest.raises(SystemExit, match=f"There is no data yet. Run {command}, then run this notebook again."):
        exec(check.source, {"catalog": SimpleNamespace(exists=lambda _: False)})


class Finished(NamedTuple):
    """Two runs on the same data and splits, the second trained without augmentation."""

    given: str
    """``--env`` and ``--params`` of the first."""
    other: Path
    """``data_root`` of the second."""


@pytest.fixture(scope="module")
def finished(smoke_run, tmp_path_factory):
    """The second run takes the first one's data and splits, and trains and scores in this process."""
    other = tmp_path_factory.mktemp("other") / "out"
    shutil.copytree(smoke_run.out, other, ignore=shutil.ignore_patterns("*.pt*", "postprocessing.json", "*scores*"))
    changed = {
        "data_root": str(other),
        "raw_root": str(smoke_run.raw),
        "tracking": {"log_model": False},
        "training": {"sampling": {"augmentation": "none"}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("MLFLOW_TRACKING_URI", smoke_run.tracking_uri)
        bootstrap_project(ROOT)
        with KedroSession.create(ROOT, env="smoke", runtime_params=changed) as session:
            session.run(pipeline_names=["training", "evaluation"])
        params = f"data_root={smoke_run.out},raw_root={smoke_run.raw},tracking.log_model=false"
        yield Finished(f"--env smoke --params {params}", other)


@pytest.fixture(scope="module")
def kernel(finished):
    """One for all notebooks, as starting it and importing torch takes longer than most of their cells."""
    from jupyter_client import KernelManager

    manager = KernelManager(kernel_name="python3")
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


class Shown(NamedTuple):
    """What an executed notebook shows."""

    kinds: list[str]
    """Media types of all outputs."""
    text: str
    """All that it printed."""
    tables: str
    """Its other results, as HTML and as text."""


def run(kernel, name: str, replaced: dict[str, str]) -> Shown:
    """Executes a notebook with some of its text replaced, each piece in one cell; no earlier notebook's names stay."""
    import nbformat
    from nbclient import NotebookClient

    notebook = read(ROOT / "notebooks" / f"{name}.ipynb")
    for old, new in replaced.items():
        (cell,) = [cell for cell in codes(notebook) if old in cell.source]
        cell.source = cell.source.replace(old, new)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    client = NotebookClient(notebook, km=kernel, timeout=600, resources=place)
    client.execute()
    client.kc.stop_channels()
    outputs = [output for cell in codes(notebook) for output in cell.outputs]
    data = [output.get("data", {}) for output in outputs]
    return Shown(
        [kind for one in data for kind in one],
        "".join(output.get("text", "") for output in outputs),
        "".join(one.get("text/html", "") + one.get("text/plain", "") for one in data),
    )


def number(pattern: str, text: str) -> float:
    (found,) = re.findall(pattern, text)
    return float(found)


@pytest.mark.slow
def test_the_data_notebook_shows_every_figure_of_the_catalog(finished, kernel):
    shown = run(kernel, "01_explore_data", {RELOAD: f"{RELOAD} {finished.given}"})
    # sheet, 5 charts, splits, memory, and two drawn on the spot
    assert shown.kinds.count("image/png") == 10
    assert shown.kinds.count("image/gif") == 1
    assert shown.kinds.count("application/vnd.plotly.v1+json") == 1
    assert "distance" in shown.text
    assert "kept in memory" in shown.text


@pytest.mark.slow
def test_the_data_set_notebook_finds_equal_pixels_and_times_the_cache(finished, kernel):
    shown = run(kernel, "02_datasets_and_augmentation", {RELOAD: f"{RELOAD} {finished.given}"})
    assert shown.kinds.count("image/png") == 3  # presets, a transform of one's own, a batch
    assert "equal pixels and masks in all samples: True" in shown.text
    assert "both mirrored: True" in shown.text
    assert shown.text.count(": equal pixels: True") == 3
    assert "the same draw twice gives equal pixels: True" in shown.text
    assert "another epoch gives equal pixels: False" in shown.text
    assert number(r"in memory: ([\d.]+) times as fast", shown.text) > 0  # the factor depends on the machine
    assert number(r"on disk: ([\d.]+) times as fast", shown.text) > 0


@pytest.mark.slow
def test_the_notebook_by_hand_learns(kernel):
    shown = run(kernel, "03_train_and_search_by_hand", {"epochs=3, extend=False": "epochs=1, extend=False"})
    assert shown.kinds.count("image/png") == 7  # samples, curve, sheet, rates, decays, history, predictions
    assert "as expected: True" in shown.text
    assert number(r"Dice ([\d.]+) after \d+ steps; pairing", shown.text) >= 0.95
    losses = [float(loss) for loss in re.findall(r"train loss ([\d.]+)", shown.text)]
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2
    dices = [float(dice) for dice in re.findall(r"val Dice ([\d.]+)\n", shown.text)]
    assert dices[0] < 0.2
    assert 0.4 < max(dices) < 0.95
    assert 0.3 < number(r"mean Dice ([\d.]+) over 16 images of the test split", shown.text) < 0.95


@pytest.mark.slow
def test_the_results_notebook_compares_two_runs(finished, kernel):
    replaced = {RELOAD: f"{RELOAD} {finished.given}", OTHER: f"type(context.project_path)({str(finished.other)!r})"}
    shown = run(kernel, "04_read_results", replaced)
    assert shown.kinds.count("image/png") == 6  # history, classes, confusion, worst, comparison, runs
    assert 0 <= number(r"mean Dice ([\d.]+), aggregation image", shown.text) < 0.5  # three epochs of the smoke run
    assert "sampling.augmentation: medical, there none" in shown.tables
    assert re.search(r"Dice \d\.\d+ against \d\.\d+, difference [+-]\d\.\d+", shown.text)
    assert "unreadable_image (dropped)" in shown.tables
    assert "2 runs have a test score" in shown.text
