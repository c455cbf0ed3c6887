"""Find the project's pipelines; `kedro registry list` shows them."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Node, Pipeline

ORDER = ("combine", "data_processing", "eda", "hparam_search", "training", "evaluation", "export", "reporting")
"""Order in which pipelines run, as far as their inputs allow; all others come last."""
ON_REQUEST = ("agreement", "annotate", "combine", "export", "export_nnunet", "inference", "select")
"""Pipelines that are not part of the default run."""
# fmt: off
SHARED = {
    "annotator_agreement", "best_hyperparameters", "bundle", "checkpoint", "class_counts_chart", "confusion_counts",
    "findings", "group_scores", "image_scores", "last_checkpoint", "learning_rate_curves", "manifest", "model_card",
    "postprocessing", "prediction_options", "predictions", "pseudo_labels", "reader_agreement", "reliability",
    "report", "sample_sheet", "search_trials", "selection", "selection_page", "series_scores", "split_comparison",
    "test_scores", "threshold_curve", "train_val_images", "training_config", "training_curves", "training_history",
}
# fmt: on
"""Outputs that other pipelines or users read. All others belong to the namespace of their pipeline."""
WORKING_FILES = {
    "annotation_folder",
    "inference_folder",
    "measured_parts",
    "nnunet_folder",
    "previous_measurements",
    "search_folder",
    "unverified_bundle",
}
"""Inputs that only their own pipeline writes."""


def register_pipelines() -> dict[str, Pipeline]:
    """Every package under ``pipelines/`` by name; ``__default__`` joins those not in ``ON_REQUEST``.

    Each pipeline is a namespace: its nodes are called ``eda.plot_samples``, and so are the data sets that only it uses
    (``eda.memory_chart`` in the catalog). Kedro-Viz draws a namespace as one box that hides them, so that the first
    view shows the pipelines and the data between them; deployers can make it one task. ``SHARED`` is a fixed list,
    because `kedro run --pipeline eda` imports no other pipeline whose inputs could be read.
    """
    packages = find_pipelines(raise_errors=True)
    pipelines = {name: _in_namespace(pipeline, name) for name, pipeline in packages.items() if name != "__default__"}
    pipelines["__default__"] = Pipeline([pipeline for name, pipeline in pipelines.items() if name not in ON_REQUEST])
    return pipelines


def in_natural_order(pipeline: Pipeline) -> list[Node]:
    """The nodes in an order that their inputs allow, grouped by pipeline; Kedro's own order interleaves them."""
    remaining = {node: set(parents) for node, parents in pipeline.node_dependencies.items()}
    rank = {name: number for number, name in enumerate(ORDER)}
    priorities = {
        node: (rank.get(namespace_of(node), len(ORDER)), position) for position, node in enumerate(pipeline.nodes)
    }
    nodes: list[Node] = []
    while remaining:
        node = min((node for node, parents in remaining.items() if not parents), key=priorities.__getitem__)
        nodes.append(node)
        del remaining[node]
        for parents in remaining.values():
            parents.discard(node)
    return nodes


def namespace_of(node: Node) -> str:
    """The pipeline that a node belongs to."""
    return str(node.namespace or node.name).partition(".")[0]


def _in_namespace(pipeline: Pipeline, name: str) -> Pipeline:
    parameters = {name for name in pipeline.inputs() if name.startswith("params:")}
    return Pipeline(
        pipeline,
        namespace=name,
        inputs=pipeline.inputs() - parameters - WORKING_FILES,
        outputs=SHARED & pipeline.all_outputs(),
        parameters=parameters,
    )
