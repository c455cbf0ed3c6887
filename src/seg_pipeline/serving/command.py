"""`seg-pipeline serve`: serve an exported model as an HTTP API and a web page."""

import argparse
import ipaddress
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from seg_pipeline.commands import renamed_to_bundle_format
from seg_pipeline.serving.settings import Settings

TOKEN_VARIABLE = "SEG_PIPELINE_TOKEN"
log = logging.getLogger("uvicorn.error")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped (Ctrl-C, SIGTERM), then answer requests in progress, within `--stop-seconds`."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        settings = read_settings(args, os.environ.get(TOKEN_VARIABLE))
        check_exposure(args.host, token=settings.token, anyone=args.allow_anyone)
    except ValueError as error:
        parser.error(str(error))
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(settings.max_pixels)  # a second check; OpenCV reads it on import
    warnings.filterwarnings("ignore", module="PIL")  # about odd tags and sizes in uploaded files
    try:
        import uvicorn

        from seg_pipeline.segmentation.prediction.predictor import Predictor
        from seg_pipeline.serving.app import STOP_SHARE, make_app
        from seg_pipeline.serving.decoding import DecodingProcesses
        from seg_pipeline.serving.protocol import LimitedProtocol, Server
    except ModuleNotFoundError as error:
        parser.error(f"the package {error.name} is missing; install it: pip install 'seg_pipeline[serve]'")
    import cv2
    import joblib

    cv2.setNumThreads(1)  # images are already processed in parallel
    threads = args.threads or max(1, joblib.cpu_count() // settings.workers)
    try:
        predictor = Predictor(args.model, threads=threads, bundle_format=args.bundle_format)
        decode = DecodingProcesses(
            number=settings.workers,
            seconds=settings.decode_seconds,
            max_pixels=settings.max_pixels,
            reading=predictor.bundle.input.reading,
        )
        app = make_app(predictor, settings, decode)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    config = uvicorn.Config(
        app,
        host=args.host,
        port=args.port,
        http=LimitedProtocol,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=(1 - 2 * STOP_SHARE) * settings.stop_seconds,  # type: ignore[arg-type]
    )
    try:
        Server(config).run()
    finally:
        if app.state.served.queue.running:  # a thread cannot be stopped, and Python would wait for it
            log.warning("stopped without waiting for a prediction in progress")
            logging.shutdown()
            os._exit(0)
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seg-pipeline serve", description=__doc__)
    add, defaults = parser.add_argument, Settings()

    def limit(flag: str, meaning: str, *, name: str = "") -> None:
        """Add an option for a number of ``Settings``; ``name`` is the field, if it differs from the flag."""
        name = name or flag.removeprefix("--").replace("-", "_")
        default = getattr(defaults, name)
        unit = "N" if isinstance(default, int) else "SECONDS"
        add(
            flag, dest=name, type=type(default), default=default, metavar=unit, help=f"{meaning} (default: %(default)s)"
        )

    add("--model", type=Path, required=True, metavar="BUNDLE", help="folder written by `kedro run --pipeline export`")
    add(
        "--bundle-format",
        choices=("onnx", "int8"),
        default="onnx",
        help="which of the bundle's networks to run (default: %(default)s)",
    )
    add("--form", type=renamed_to_bundle_format, help=argparse.SUPPRESS)
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=int, default=8000, help="default: %(default)s")
    add(
        "--token",
        help=f"token that API requests must send; prefer the variable {TOKEN_VARIABLE}, which `ps` does not show",
    )
    add("--allow-anyone", action="store_true", help="listen beyond this machine without a token")
    add("--save", type=Path, metavar="FOLDER", help="save masks that are corrected on the page; default: write nothing")
    add(
        "--examples",
        type=Path,
        metavar="FOLDER",
        help="example images for the page (default: the folder `examples` of the bundle)",
    )
    add(
        "--allow-host",
        dest="hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="host name that requests may use besides localhost and IP addresses; may be repeated",
    )
    limit("--workers-in-flight", "images predicted at the same time", name="workers")
    limit("--queue", "requests that may wait in addition")
    add("--threads", type=int, metavar="N", help="threads per image (default: cores / workers in flight)")
    limit("--max-bytes", "largest upload in bytes")
    limit("--max-pixels", "largest image in pixels")
    limit("--timeout", "longest time from request to response")
    limit("--stop-seconds", "longest time to stop")
    limit("--client-requests", "API requests of a client per minute, 0: no limit")
    limit("--client-concurrency", "API requests of a client at once, 0: no limit")
    limit("--decode-seconds", "longest time to decode a file")
    return parser


def read_settings(args: argparse.Namespace, token: str | None) -> Settings:
    """Settings from the command line; raises ValueError if a value is out of bounds."""
    if args.threads is not None and args.threads < 1:
        raise ValueError(f"`threads` must be at least 1, found {args.threads}")
    values = {field.name: getattr(args, field.name) for field in fields(Settings)}
    values |= {"token": token if args.token is None else args.token, "hosts": tuple(args.hosts)}
    return Settings(**values)


def check_exposure(host: str, *, token: str | None, anyone: bool) -> None:
    """Raise ValueError if other machines could reach the server without a token."""
    if token is None and not anyone and not is_loopback(host):
        raise ValueError(
            f"--host {host} is reachable from other machines: set a token (--token, or the variable {TOKEN_VARIABLE}), "
            "or pass --allow-anyone"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
