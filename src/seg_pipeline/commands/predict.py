"""`seg-pipeline predict`: an exported model on new images, with onnxruntime alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

EPILOG = """exit codes: 0 every image was predicted; 1 it could not start, and says why; 2 wrong usage;
3 done, but findings.csv names images that could not be predicted; 130 stopped by Ctrl-C
(the same command goes on from there)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code that the epilogue of `--help` describes."""
    given = parser().parse_args(argv)
    try:
        return run(given)
    except ValueError as error:
        print(f"seg-pipeline predict: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on in {given.out}", file=sys.stderr)
        return 130


def run(given: argparse.Namespace) -> int:
    from seg_pipeline.segmentation.inference import OutputSettings, find_images, predict_folder
    from seg_pipeline.segmentation.prediction.predictor import Predictor

    table, passed_over = find_images(given.images)
    predictor = Predictor(given.model, threads=given.threads, form=given.form)
    bundle = predictor.bundle
    prediction = replace(
        bundle.prediction,
        tta=given.tta or bundle.prediction.tta,
        overlap=bundle.prediction.overlap if given.overlap is None else given.overlap,
    )
    predictor.bundle = replace(bundle, prediction=prediction)
    if given.thresholds:
        predictor.bundle = predictor.bundle.with_thresholds(given.thresholds)
    result = predict_folder(
        table,
        predictor,
        Path(given.out),
        settings=OutputSettings(formats=tuple(given.formats), rle_order=given.rle_order),
        workers=given.workers,
        batch_size=given.batch_size,
        progress=False if given.quiet else None,
    )
    if not given.quiet:
        print(summary(len(table), result.num_new, result.findings["reason"].tolist(), passed_over, given.out))
    return 3 if len(result.findings) else 0


def summary(num_images: int, num_new: int, reasons: list[str], passed_over: int, out: str) -> str:
    lines = [f"{num_images - len(reasons)} of {num_images} images predicted, {num_new} of them now -> {out}"]
    if passed_over:
        lines.append(f"{passed_over} files passed over, as their names do not end as images' do")
    if reasons:
        lines += [f"{len(reasons)} images could not be predicted (findings.csv):", *(f"  {one}" for one in reasons[:5])]
        lines += [f"  and {len(reasons) - 5} more"] * (len(reasons) > 5)
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="seg-pipeline predict",
        description="Predict masks of new images with an exported model. Needs onnxruntime, not torch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "images",
        metavar="IMAGES",
        help="a folder, an image, a glob in quotes, or a list: .txt with a path a line, .csv or .parquet with a "
        "column path (a manifest is one)",
    )
    made.add_argument("--model", required=True, metavar="BUNDLE", help="folder made by `kedro run --pipeline export`")
    made.add_argument("--out", required=True, metavar="DIR", help="new folder, or one to go on in")
    made.add_argument(
        "--formats",
        type=_formats,
        default=["masks", "rle"],
        metavar="LIST",
        help="of masks, overlays, rle and coco, with commas (default: masks,rle); areas.csv and findings.csv always",
    )
    made.add_argument(
        "--rle-order", choices=["C", "F"], default="C", help="submission.csv: C along rows, F down columns (default C)"
    )
    made.add_argument(
        "--form", choices=["onnx", "int8"], default="onnx", help="of the network; int8: if exported (default onnx)"
    )
    made.add_argument(
        "--tta", choices=["none", "horizontal", "flips"], help="mirrored images too; default: the model's"
    )
    made.add_argument(
        "--overlap",
        type=_overlap,
        metavar="SHARE",
        help="predict in overlapping windows (only models trained on crops); default: the model's",
    )
    made.add_argument(
        "--thresholds", type=_thresholds, metavar="LIST", help="one for all classes, or one a class, with commas"
    )
    made.add_argument("--threads", type=_count, help="of one prediction (default: one a core)")
    made.add_argument("--workers", type=_count, default=2, help="threads that read ahead (default 2)")
    made.add_argument("--batch-size", type=_count, default=1, help="images at once (default 1)")
    made.add_argument("--quiet", action="store_true", help="neither progress nor summary")
    return made


def _formats(text: str) -> list[str]:
    names, known = [one.strip() for one in text.split(",") if one.strip()], ("masks", "overlays", "rle", "coco")
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; there are {', '.join(known)}")
    return [name for name in known if name in names]


def _thresholds(text: str) -> list[float]:
    try:
        values = [float(one) for one in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers with commas between, such as 0.5,0.4") from None
    if not all(0 < value < 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: thresholds lie between 0 and 1")
    return values


def _overlap(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share from 0 to 0.9")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
