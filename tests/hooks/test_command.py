from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[2]


def test_the_catalog_tells_the_command_of_the_run(tmp_path):
    bootstrap_project(ROOT)
    given = {"data_root": str(tmp_path), "training": {"fit": {"epochs": 2}}}
    with KedroSession.create(ROOT, env="smoke", runtime_params=given) as session:
        command = session.load_context().catalog.load("run_command")
    assert command == f"kedro run --env smoke --params data_root={tmp_path},training.fit.epochs=2"
