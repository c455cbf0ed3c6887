"""`seg-pipeline predict`: predict masks of new images with an exported model, using onnxruntime without torch."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seg_pipeline.commands import renamed_to_bundle_format

EPILOG = """exit codes: 0 every image was predicted; 1 the command could not start or write its output;
2 wrong usage; 3 done, but findings.csv lists images that could not be predicted; 130 stopped by Ctrl-C
(repeat the command to resume)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, which the epilogue of `--help` explains."""
    args = make_parser().parse_args(argv)
    try:
        return run(args)
    except (ValueError, OSError) as error:  # OSError: no permission, full disk
        print(f"seg-pipeline predict: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; repeat the command to resume in {args.out}", file=sys.stderr)
        return 130


def run(args: argparse.Namespace) -> int:
    from seg_pipeline.segmentation.inference import OutputSettings, find_images, predict_folder
    from seg_pipeline.segmentation.prediction.predictor import Predictor

    table, skipped = find_images(args.images)
    predictor = Predictor(args.model, threads=args.threads, bundle_format=args.bundle_format)
    bundle = predictor.bundle
    prediction = replace(
        bundle.prediction,
        tta=args.tta or bundle.prediction.tta,
        overlap=bundle.prediction.overlap if args.overlap is None else args.overlap,
    )
    predictor.bundle = replace(bundle, prediction=prediction)
    if args.thresholds:
        predictor.bundle = predictor.bundle.with_thresholds(args.thresholds)
    result = predict_folder(
        table,
        predictor,
        Path(args.out),
        settings=OutputSettings(formats=tuple(args.formats), rle_order=args.rle_order),
        workers=args.workers,
        batch_size=args.batch_size,
        progress=False if args.quiet else None,
    )
    if not args.quiet:
        print(summary(len(table), result.num_new, result.findings["reason"].tolist(), skipped, args.out))
    return 3 if len(result.findings) else 0


def summary(num_images: int, num_new: int, reasons: list[str], skipped: int, out: str) -> str:
    lines = [f"{num_images - len(reasons)} of {num_images} images predicted, {num_new} of them now -> {out}"]
    if skipped:
        lines.append(f"{skipped} file{'s' * (skipped != 1)} skipped: no known image suffix")
    if reasons:
        lines += [
            f"{len(reasons)} image{'s' * (len(reasons) != 1)} could not be predicted (findings.csv):",
            *(f"  {reason}" for reason in reasons[:5]),
        ]
        lines += [f"  and {len(reasons) - 5} more"] * (len(reasons) > 5)
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seg-pipeline predict",
        description="Predict masks of new images with an exported model. Needs onnxruntime, not torch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "images",
        metavar="IMAGES",
        help="a folder, an image, a glob in quotes, or a list: .txt with one path per line, .csv or .parquet with "
        "a column path (such as the manifest)",
    )
    add("--model", required=True, metavar="BUNDLE", help="folder written by `kedro run --pipeline export`")
    add(
        "--out",
        required=True,
        metavar="DIR",
        help="output folder: a new one, or that of an interrupted run to resume",
    )
    add(
        "--formats",
        type=_formats,
        default=["masks", "rle"],
        metavar="LIST",
        help="comma-separated list of masks, overlays, uncertainty, spread (between the models of the folds), rle, "
        "coco (default: masks,rle); areas.csv and findings.csv are always written",
    )
    rle_help = "run lengths in rle_masks.csv: C along rows, F down columns (default C)"
    add("--rle-order", choices=["C", "F"], default="C", help=rle_help)
    format_help = "which of the bundle's networks to run; int8 only if it was exported (default onnx)"
    add("--bundle-format", choices=["onnx", "int8"], default="onnx", help=format_help)
    add("--form", type=renamed_to_bundle_format, help=argparse.SUPPRESS)
    tta_help = "average over mirrored images; default: as in the exported model"
    add("--tta", choices=["none", "horizontal", "flips"], help=tta_help)
    add(
        "--overlap",
        type=_overlap,
        metavar="SHARE",
        help="predict in overlapping windows (only for models trained on crops); default: as in the exported model",
    )
    add(
        "--thresholds",
        type=_thresholds,
        metavar="LIST",
        help="one threshold for all classes, or one per class, comma-separated",
    )
    add("--threads", type=_count, help="threads per prediction (default: one per core)")
    add(
        "--workers",
        type=_count,
        default=2,
        help="threads that read images; as many more write masks (default 2)",
    )
    add("--batch-size", type=_count, default=1, help="images per batch (default 1)")
    add("--quiet", action="store_true", help="print no progress and no summary")
    return parser


def _formats(text: str) -> list[str]:
    from seg_pipeline.segmentation.inference.run import FORMATS

    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; choose from {', '.join(FORMATS)}")
    return [name for name in FORMATS if name in names]


def _thresholds(text: str) -> list[float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected comma-separated numbers, such as 0.5,0.4") from None
    if not all(0 < value < 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: thresholds must be between 0 and 1")
    return values


def _overlap(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 0.9")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
