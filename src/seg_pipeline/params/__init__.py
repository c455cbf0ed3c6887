"""Typed parameters: one model per pipeline, with bounds; unknown keys are errors.

Only this package knows the YAML keys. Nodes take these models and pass plain keyword arguments to the library.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from seg_pipeline.params.annotate import AnnotateParams
from seg_pipeline.params.base import Params
from seg_pipeline.params.combine import CombineParams
from seg_pipeline.params.data import DataProcessingParams, DatasetParams
from seg_pipeline.params.eda import EdaParams
from seg_pipeline.params.evaluation import AgreementParams, EvaluationParams
from seg_pipeline.params.export import ExportNnunetParams, ExportParams
from seg_pipeline.params.inference import InferenceParams
from seg_pipeline.params.reporting import ReportingParams
from seg_pipeline.params.search import HparamSearchParams, check_space
from seg_pipeline.params.select import SelectParams
from seg_pipeline.params.tracking import TrackingParams
from seg_pipeline.params.training import TrainingParams, make_training_config
from seg_pipeline.segmentation.settings.cluster import ClusterSettings
from seg_pipeline.segmentation.settings.figures import FigureSettings
from seg_pipeline.segmentation.settings.training import PredictSettings, ScoreSettings

__all__ = [
    "AgreementParams",
    "AnnotateParams",
    "CombineParams",
    "DataProcessingParams",
    "DatasetParams",
    "EdaParams",
    "EvaluationParams",
    "ExportNnunetParams",
    "ExportParams",
    "HparamSearchParams",
    "InferenceParams",
    "Parameters",
    "ReportingParams",
    "SelectParams",
    "TrainingParams",
    "make_training_config",
]


class Parameters(Params):
    """Everything that `conf/` and `--params` may set, by top-level key."""

    seed: int = Field(ge=0, lt=2**31)
    """Determines splits, order, augmentation, initial weights and resampling."""
    dataset: DatasetParams
    data_processing: DataProcessingParams
    eda: EdaParams
    scores: ScoreSettings
    training: TrainingParams
    hparam_search: HparamSearchParams
    prediction: PredictSettings = PredictSettings()
    evaluation: EvaluationParams
    reporting: ReportingParams
    tracking: TrackingParams
    figures: FigureSettings = FigureSettings()
    cluster: ClusterSettings = ClusterSettings()
    export_nnunet: ExportNnunetParams = ExportNnunetParams()
    export: ExportParams = ExportParams()
    inference: InferenceParams = InferenceParams()
    annotate: AnnotateParams = AnnotateParams()
    select: SelectParams = SelectParams()
    combine: CombineParams = CombineParams()
    agreement: AgreementParams = AgreementParams()
    concurrent_run: Literal["stop", "wait"] = "stop"
    """If another run of the same pipeline is writing to `data_root`: stop at once, or wait until it ends."""
    data_root: str | None = None
    """Folder for all outputs."""
    raw_root: str | None = None
    """Folder with the raw data."""

    @model_validator(mode="after")
    def _check_training_config(self) -> Parameters:
        config = make_training_config(self.dataset, self.scores, self.training, self.seed)
        check_space(self.hparam_search.tpe.space, config)
        return self

    @model_validator(mode="after")
    def _check_class_column(self) -> Parameters:
        annotations = self.data_processing.annotations
        needs_no_class_column = annotations.mask_format == "indexed" or not isinstance(annotations.columns.mask, str)
        if annotations.columns.class_ is None and len(self.dataset.classes) > 1 and not needs_no_class_column:
            raise ValueError(
                "`data_processing.annotations.columns.class: null` means that every row belongs to the only class, but "
                f"`dataset.classes` declares {', '.join(self.dataset.names)}; set it to the column with the class"
            )
        return self

    @model_validator(mode="after")
    def _check_objects(self) -> Parameters:
        annotations = self.data_processing.annotations
        if self.dataset.objects and annotations.multiple_masks != "instances":
            raise ValueError(
                "`dataset.objects: true` needs a mask per object: set `data_processing.annotations.multiple_masks` to "
                f"instances, found {annotations.multiple_masks}"
            )
        if (
            annotations.mask_format == "indexed"
            and annotations.multiple_masks == "instances"
            and len(self.dataset.classes) > 1
        ):
            raise ValueError(
                "with `mask_format: indexed`, `multiple_masks: instances` means that each pixel value is an object of "
                f"the only class, but `dataset.classes` declares {', '.join(self.dataset.names)}"
            )
        return self

    @model_validator(mode="after")
    def _check_pixel_values(self) -> Parameters:
        """Pixel values of an indexed mask must be whole numbers or colours, not names."""
        annotations = self.data_processing.annotations
        values = [*self.dataset.values.values(), *annotations.background_values, *annotations.ignore_values]
        colours = [value for value in values if str(value).startswith("#")]
        numbers = [value for value in values if re.fullmatch(r"-?\d+", str(value))]
        if annotations.mask_format == "indexed" and len(values) not in (len(colours), len(numbers)):
            raise ValueError(
                "with `mask_format: indexed` every class, background and ignore value must be a whole number, or "
                f"every one a colour [red, green, blue]; found {', '.join(map(str, values[:8]))}"
            )
        return self
