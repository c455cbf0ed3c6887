"""How the pipelines are put together."""

from pathlib import Path

from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[1]


def test_each_node_is_named_after_its_pipeline_and_tagged():
    bootstrap_project(ROOT)
    for name, pipeline in pipelines.items():
        for node in pipeline.nodes:
            assert name in (node.namespace, "__default__")
            assert node.name.startswith(f"{node.namespace}.")
            assert node.tags


def test_datasets_and_parameters_keep_their_names():
    bootstrap_project(ROOT)
    assert "manifest" in pipelines["eda"].inputs()
    assert "params:eda" in pipelines["eda"].inputs()
