"""The reporting pipeline where little or nothing has run before it."""

from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reporting(tmp_path_factory):
    """The folder of reports after data_processing and reporting alone, where an older figure lay."""
    folder = tmp_path_factory.mktemp("reporting")
    older = folder / "out" / "08_reporting" / "class_scores.png"
    older.parent.mkdir(parents=True)
    older.touch()
    bootstrap_project(ROOT)
    given = {"data_root": str(folder / "out"), "raw_root": str(folder / "raw"), "tracking": {"enabled": False}}
    for pipeline in ("data_processing", "reporting"):
        with KedroSession.create(ROOT, env="smoke", runtime_params=given) as session:
            session.run(pipeline_names=[pipeline])
    return older.parent


def test_a_report_of_the_data_alone_names_what_is_missing(reporting):
    page = (reporting / "report.html").read_text()
    assert "No model has been scored. Run <code>kedro run --pipeline evaluation --env smoke --params data_root=" in page
    assert "synthetic phantom" in page
    assert "No model has been trained yet." in (reporting / "model_card.md").read_text()


def test_figures_of_nothing_are_not_left_behind(reporting):
    assert list(reporting.glob("*.png")) == []
