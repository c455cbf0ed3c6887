"""`seg-pipeline join`: help train in the run of another machine."""

import argparse
import logging
import sys
import tempfile
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="seg-pipeline join",
        description="Help train, with this machine's GPUs or cores, in a `kedro run` on another machine that sets "
        "`training.compute.nodes`, `endpoint` and `shared_folder`.",
    )
    parser.add_argument(
        "folder", type=Path, help="`training.compute.shared_folder` of the run, as a path on this machine"
    )
    parser.add_argument("--cache", type=Path, help="folder for decoded images (default: a temporary one)")
    parser.add_argument(
        "--idle",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="end if no training starts for this long (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not args.folder.is_dir():
        print(f"seg-pipeline join: {args.folder}: no such folder; pass the folder of `shared_folder`", file=sys.stderr)
        return 2
    from seg_pipeline.segmentation.training.distributed import join_jobs

    with tempfile.TemporaryDirectory(prefix="seg_pipeline_cache_") as temporary_cache:
        try:
            failures = join_jobs(args.folder, cache=args.cache or Path(temporary_cache), idle=args.idle)
        except ValueError as error:
            failures = [str(error)]
    for failure in failures:
        print(f"seg-pipeline join: {failure}", file=sys.stderr)
    return int(bool(failures))
