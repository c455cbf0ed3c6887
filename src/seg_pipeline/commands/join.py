"""`seg-pipeline join`: train along in the run of another machine."""

import argparse
import logging
import sys
import tempfile
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="seg-pipeline join",
        description="Train along, with this machine's GPUs or cores, in a `kedro run` on another machine that sets "
        "`training.compute.nodes`, `endpoint` and `shared_folder`.",
    )
    parser.add_argument(
        "folder", type=Path, help="`training.compute.shared_folder` of the run, as this machine sees it"
    )
    parser.add_argument("--cache", type=Path, help="folder for decoded images; by default a temporary one")
    parser.add_argument(
        "--idle", type=float, default=600.0, metavar="SECONDS", help="end when no training has begun for so long (600)"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not options.folder.is_dir():
        print(f"seg-pipeline join: {options.folder}: no such folder; name the one of `shared_folder`", file=sys.stderr)
        return 2
    from seg_pipeline.segmentation.training.distributed import join_jobs

    with tempfile.TemporaryDirectory(prefix="seg_pipeline_cache_") as own:
        try:
            failures = join_jobs(options.folder, cache=options.cache or Path(own), idle=options.idle)
        except ValueError as error:
            failures = [str(error)]
    for failure in failures:
        print(f"seg-pipeline join: {failure}", file=sys.stderr)
    return int(bool(failures))
