"""`seg-pipeline serve`: serve an exported model as an HTTP API and a web page."""

import argparse
import ipaddress
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from seg_pipeline.commands import now_bundle_format
from seg_pipeline.serving.settings import Settings

TOKEN = "SEG_PIPELINE_TOKEN"
log = logging.getLogger("uvicorn.error")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped (Ctrl-C, SIGTERM); requests in progress are answered first, within `--stop-seconds`."""
    parser = make_parser()
    options = parser.parse_args(argv)
    try:
        settings = read_settings(options, os.environ.get(TOKEN))
        check_exposure(options.host, token=settings.token, anyone=options.allow_anyone)
    except ValueError as error:
        parser.error(str(error))
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(settings.max_pixels)  # OpenCV reads it on import: a second check
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

    cv2.setNumThreads(1)  # images are already computed in parallel
    threads = options.threads or max(1, joblib.cpu_count() // settings.workers)
    try:
        predictor = Predictor(options.model, threads=threads, bundle_format=options.bundle_format)
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
        host=options.host,
        port=options.port,
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
    add, normal = parser.add_argument, Settings()

    def limit(flag: str, meaning: str, *, name: str = "") -> None:
        """An option for a number of ``Settings``, of the same name unless ``name`` is another."""
        name = name or flag.removeprefix("--").replace("-", "_")
        usual = getattr(normal, name)
        unit = "N" if isinstance(usual, int) else "SECONDS"
        told = f"{meaning} (default: %(default)s)"
        add(flag, dest=name, type=type(usual), default=usual, metavar=unit, help=told)

    add("--model", type=Path, required=True, metavar="BUNDLE", help="folder written by `kedro run --pipeline export`")
    add(
        "--bundle-format",
        choices=("onnx", "int8"),
        default="onnx",
        help="which of the bundle's networks to run (default: %(default)s)",
    )
    add("--form", type=now_bundle_format, help=argparse.SUPPRESS)
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=int, default=8000, help="default: %(default)s")
    add("--token", help=f"token that API requests must send; prefer the variable {TOKEN}, which `ps` does not show")
    add("--allow-anyone", action="store_true", help="listen beyond this machine without a token")
    add("--save", type=Path, metavar="FOLDER", help="keep masks that are corrected on the page; default: write nothing")
    add(
        "--examples",
        type=Path,
        metavar="FOLDER",
        help="images that the page offers to try (default: the folder `examples` of the bundle)",
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


def read_settings(options: argparse.Namespace, token: str | None) -> Settings:
    """Settings from the command line; raises ValueError if a value is out of bounds."""
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"`threads` must be at least 1, found {options.threads}")
    given = {one.name: getattr(options, one.name) for one in fields(Settings)}
    given |= {"token": token if options.token is None else options.token, "hosts": tuple(options.hosts)}
    return Settings(**given)


def check_exposure(host: str, *, token: str | None, anyone: bool) -> None:
    """Raise ValueError if other machines could reach the server without a token."""
    if token is None and not anyone and not is_loopback(host):
        raise ValueError(
            f"--host {host} is reachable from other machines: set a token (--token, or the variable {TOKEN}), "
            "or pass --allow-anyone"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
