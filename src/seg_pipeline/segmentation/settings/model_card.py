"""What the user states about the data for the report and the model card; None: not stated."""

from dataclasses import dataclass

from seg_pipeline.segmentation.settings.training import Settings


@dataclass(frozen=True, kw_only=True)
class ModelCardDetails(Settings):
    data: str | None = None
    """What the data is, in a sentence or two."""
    source: str | None = None
    """Where the data comes from, and its licence."""
    ground_truth: str | None = None
    """Who or what drew the masks."""
    ground_truth_is_model_output: bool = False
    """Another model made the masks; a high score then shows imitation, not correctness."""
    intended_use: str | None = None
    """Who may use the model for what."""
    limits: tuple[str, ...] = ()
    """Other limits a reader must know, one sentence each."""
