import shlex
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from seg_pipeline.cli import read_params
from seg_pipeline.hooks.run_info import command_for, pipelines_of

ROOT = Path(__file__).parents[2]


def test_the_catalog_tells_the_command_of_the_run(tmp_path):
    bootstrap_project(ROOT)
    given = {"data_root": str(tmp_path), "training": {"fit": {"epochs": 2}}}
    with KedroSession.create(ROOT, env="smoke", runtime_params=given) as session:
        command = session.load_context().catalog.load("run_command")
    assert command == f"kedro run --env smoke --params data_root={tmp_path},training.fit.epochs=2"


def test_the_command_of_a_run_gives_the_same_parameters_when_it_is_typed():
    given = {
        "export": {"formats": ["onnx", "int8"], "int8": None},
        "seed": 3,
        "resume": False,
        "inference": {"images": "a, b.png", "model": "x y"},
    }
    command = command_for("export", {"env": "smoke", "runtime_params": given})
    assert command == (
        "kedro run --pipeline export --env smoke --params "
        '\'export.formats=["onnx","int8"],export.int8=null,seed=3,resume=false,'
        'inference.images="a, b.png",inference.model=x y\''
    )
    assert read_params(None, None, shlex.split(command)[-1]) == given


def test_pipelines_have_an_order_of_their_own():
    shuffled = ["evaluation", "reporting", "inference", "training", "eda"]
    assert pipelines_of({"pipeline_names": shuffled}) == ["eda", "training", "evaluation", "reporting", "inference"]
    assert pipelines_of({"pipeline_names": []}) == []
