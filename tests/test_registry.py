"""How the pipelines are put together."""

from pathlib import Path

from kedro.config import OmegaConfigLoader
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project

from seg_pipeline.pipeline_registry import SHARED

ROOT = Path(__file__).parents[1]


def test_each_node_is_named_after_its_pipeline_and_tagged():
    bootstrap_project(ROOT)
    for name, pipeline in pipelines.items():
        for node in pipeline.nodes:
            assert name in (node.namespace, "__default__")
            assert node.name.startswith(f"{node.namespace}.")
            assert node.tags


def test_what_pipelines_share_keeps_its_name_and_the_rest_is_in_their_namespace():
    bootstrap_project(ROOT)
    assert {"manifest", "params:eda"} <= pipelines["eda"].inputs()
    assert pipelines["eda"].outputs() == {"eda.data_set_page", "eda.point_chart", "eda.series_mp4"}
    assert {"report", "model_card"} <= pipelines["reporting"].outputs()
    assert {"manifest", "train_val_images", "findings"} <= pipelines["data_processing"].all_outputs()
    assert "data_processing.previous_measurements" in pipelines["data_processing"].inputs()


def test_every_data_set_of_a_pipeline_is_in_the_catalog():
    bootstrap_project(ROOT)
    catalog = OmegaConfigLoader(conf_source=str(ROOT / "conf"), base_env="base", default_run_env="base")["catalog"]
    used = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    assert {name for name in used if not name.startswith("params:")} == set(catalog)


def test_nothing_is_declared_shared_that_no_pipeline_makes():
    bootstrap_project(ROOT)
    assert {name for pipeline in pipelines.values() for name in pipeline.all_outputs()} >= SHARED
    assert {f"{name}.{one}" for name, one in (("eda", "class_counts"), ("export", "unverified_bundle"))} <= {
        name for pipeline in pipelines.values() for name in pipeline.datasets()
    }


def test_no_name_has_to_be_looked_up():
    """Names that readers of the project stumbled over do not come back."""
    bootstrap_project(ROOT)
    odd = (
        "development recipe known_ new_measures sample_cache digest given_splits draft judge accept gates pick_ place_"
    )
    names = [
        name for pipeline in pipelines.values() for name in (*pipeline.datasets(), *(n.name for n in pipeline.nodes))
    ]
    ours = {name for name in names if not name.startswith("params:")}
    assert not [name for name in ours if any(part in name for part in odd.split())]
