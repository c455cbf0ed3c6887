from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from seg_pipeline.hooks.run_info import command_for, pipelines_of

ROOT = Path(__file__).parents[2]


def test_the_catalog_tells_the_command_of_the_run(tmp_path):
    bootstrap_project(ROOT)
    given = {"data_root": str(tmp_path), "training": {"fit": {"epochs": 2}}}
    with KedroSession.create(ROOT, env="smoke", runtime_params=given) as session:
        command = session.load_context().catalog.load("run_command")
    assert command == f"kedro run --env smoke --params data_root={tmp_path},training.fit.epochs=2"


def test_lists_which_the_command_line_cannot_hold_are_said_to_be_in_the_users_file():
    given = {"env": "smoke", "runtime_params": {"export": {"forms": ["onnx", "int8"]}, "seed": 3}}
    assert command_for("training", given) == "kedro run --pipeline training --env smoke --config FILE"


def test_pipelines_have_an_order_of_their_own():
    assert pipelines_of({"pipeline_names": ["training", "eda"]}) == ["eda", "training"]
    assert pipelines_of({"pipeline_names": []}) == []
