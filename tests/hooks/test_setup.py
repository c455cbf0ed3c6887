import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.framework.project import LOGGING

from seg_pipeline.hooks.setup import SetupHooks
from seg_pipeline.segmentation.settings import figures


@pytest.fixture(autouse=True)
def _default_again():
    yield
    figures.configure()


def create_context(parameters, project=Path()):
    loader = type("Loader", (dict,), {"runtime_params": {}})(parameters=parameters)
    SetupHooks().after_context_created(SimpleNamespace(config_loader=loader, env=None, project_path=project))


def test_a_context_sets_the_look():
    create_context({"figures": {"font_size": 12, "rc": {"font.family": "serif"}}})
    current = figures.CURRENT
    assert (current.font_size, current.dpi, current.rc) == (12, 192, {"font.family": "serif"})
    create_context({"seed": 3})
    assert (current.font_size, current.rc) == (9, {})


def test_figures_take_the_colours_of_the_data_set_unless_they_are_given():
    classes = [{"name": "a", "value": [220, 0, 0]}, {"name": "b", "value": [0, 200, 0]}]
    create_context({"dataset": {"task": "multiclass", "classes": classes}})
    assert figures.CURRENT.class_colours == ["#dc0000", "#00c800"]
    create_context(
        {"dataset": {"task": "multiclass", "classes": classes}, "figures": {"class_colours": ["#000001", "#000080"]}}
    )
    assert figures.CURRENT.class_colours == ["#000001", "#000080"]


def test_a_notebook_in_another_folder_has_the_logs_of_the_project(tmp_path, monkeypatch):
    configured = []
    monkeypatch.setattr(LOGGING, "configure", configured.append)
    monkeypatch.delenv("KEDRO_LOGGING_CONFIG", raising=False)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "logging.yml").write_text("version: 1")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    create_context({}, tmp_path)
    assert configured == []  # Kedro has found it itself
    monkeypatch.chdir(tmp_path / "notebooks")
    create_context({}, tmp_path)
    assert configured == [{"version": 1}]


def test_a_process_that_is_started_afresh_has_the_look():
    create_context({"figures": {"font_size": 11, "dpi": 99}})
    module = "seg_pipeline.segmentation.settings.figures"
    code = f"from {module} import CURRENT; print(CURRENT.font_size, CURRENT.dpi, CURRENT.rc)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "11 99 {}\n"
