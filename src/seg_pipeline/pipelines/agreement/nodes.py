"""Agreement between two readers: two sets of masks of the same images."""

from seg_pipeline import segmentation as seg
from seg_pipeline.params import AgreementParams, EvaluationParams
from seg_pipeline.pipelines import DataFrame, Figure
from seg_pipeline.segmentation.settings.training import ScoreSettings


def compare_readers(
    manifest: DataFrame, scores: ScoreSettings, evaluation: EvaluationParams, params: AgreementParams, seed: int
) -> tuple[dict, DataFrame, Figure]:
    """Score the other reader's masks against this environment's, overall and per image, in a Bland-Altman plot too."""
    agreement = seg.metrics.compare_readers(
        manifest,
        seg.metrics.read_other_manifest(params.compare_with),
        scores=scores,
        measures=evaluation.measures,
        seed=seed,
        workers=evaluation.num_workers,
    )
    differences = {name: class_scores["area_difference"] for name, class_scores in agreement.scores["classes"].items()}
    chart = seg.plotting.plot_area_differences(agreement.images, differences, unit=agreement.scores["area_unit"])
    return {**agreement.scores, "other": params.compare_with}, agreement.images, chart


def write_agreement_page(reader_agreement: dict, images: DataFrame, area_chart: bytes) -> str:
    """One HTML file that opens in any browser."""
    return seg.report.agreement_page(reader_agreement, images, area_chart)
