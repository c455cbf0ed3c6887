"""Parameters of the report and the model card."""

from pydantic import Field

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails


class ReportingParams(Params):
    compare_with: str | None = None
    """`data_root` of another run on the same test split to compare with; null: none."""
    images_per_gallery: int = Field(default=6, ge=1, le=24)
    """Images per gallery and on the prediction sheet."""
    phantom: dict[str, object] | None = None
    """Settings of the synthetic sample (phantom); null: the data is not synthetic."""
    model_card: ModelCardDetails = ModelCardDetails()
