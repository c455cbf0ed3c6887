"""From counts of pixels to Dice, IoU, distances, confidence intervals and calibration; the scores of a split."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["compare_readers", "read_other_manifest"],
        "annotators": ["annotator_agreement"],
        "aggregation": ["Aggregator"],
        "calibration": ["Calibration", "before_and_after"],
        "review": ["score_flags"],
        "run_comparison": [
            "describe",
            "no_pairs",
            "pair_scores",
            "read_predictions",
            "read_run",
            "summarise",
        ],
        "split_scores": ["refuse_partial", "score_predictions", "scored_rows"],
    },
)
