"""What reads each form, as the pipelines, `predict` and the server do. A damaged input may raise ``EXPECTED`` only."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from kedro.io import DatasetError
from tests.runs.fuzz import seeds

from seg_pipeline.segmentation.settings.reading import ReadSettings

EXPECTED = (ValueError, DatasetError)
"""DatasetError: Kedro's own, for a table of its data sets that cannot be loaded. Every reader of ours: ValueError."""
MAX_PIXELS = 4_000_000
SHAPE = 24, 40


class UnexpectedError(Exception):
    """Something that must not happen has happened, although nothing was raised."""


def prepare() -> None:
    """Once per process."""
    import logging

    import cv2
    import torch

    warnings.simplefilter("ignore")  # of damaged metadata; only what escapes counts
    logging.disable(logging.CRITICAL)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def read(reader: str, data: bytes, folder: Path) -> None:
    """Read ``data``; ``folder`` is for the files that a reader needs.

    Raises:
        Exception: what escapes; ``EXPECTED`` is caught here.
    """
    with contextlib.suppress(EXPECTED):
        READERS[reader](data, folder)


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _each(*calls: Callable[[], Any]) -> None:
    """All calls, though one may refuse the input."""
    for call in calls:
        with contextlib.suppress(EXPECTED):
            call()


def _image(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.images import decoding
    from seg_pipeline.segmentation.images.addresses import format_address
    from seg_pipeline.serving.decoding import decode_upload
    from seg_pipeline.serving.schema import RequestError

    path = _file(folder, "image", data)
    settings = ReadSettings(max_pixels=MAX_PIXELS, value_range=(0, 255))
    address = format_address(path, settings)

    def upload() -> None:
        try:
            decode_upload("a", data, max_pixels=MAX_PIXELS, reading=settings)
        except RequestError as error:
            if error.status >= 500:
                raise

    def sizes_agree() -> None:
        if (size := decoding.read_size(address)) != decoding.read_image(address).shape[:2]:
            raise UnexpectedError(f"the header says {size}")

    decoding.count_pages(address)
    page = f"{address}&page=1"
    _each(sizes_agree, lambda: decoding.read_values(address), lambda: decoding.read_image(page), upload)


def _volume(name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from seg_pipeline.segmentation.formats.volume_files import misplacement, read_slices, whole_labels
        from seg_pipeline.segmentation.images.intensities import fit_uint16, to_uint16

        path = _file(folder, name, data)
        volume = read_slices(path, axis="coronal", labels=True)
        misplacement(volume, _scan(folder))
        _each(lambda: whole_labels(volume.values), lambda: to_uint16(volume.values, *fit_uint16(volume.values)))

    return read


@cache
def _scan(folder: Path) -> Any:
    """A scan of three sound slices, which labels and other slices are compared with."""
    from seg_pipeline.segmentation.formats.volume_files import read_volume

    series = folder / "series"
    series.mkdir(exist_ok=True)
    for number in range(3):
        seeds._saver(seeds._slice(number))(series / f"{number}.dcm")
    return read_volume(series, axis="coronal")


def _series(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.formats.volume_files import read_volume

    _scan(folder)
    series = folder / "damaged"
    series.mkdir(exist_ok=True)
    for number in (0, 2):
        (series / f"{number}.dcm").write_bytes((folder / "series" / f"{number}.dcm").read_bytes())
    _file(series, "1.dcm", data)
    read_volume(series, axis="axial")


def _named_masks(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.formats.dicom import mask_names
    from seg_pipeline.segmentation.formats.volume_files import misplacement, read_named_masks

    scan, path = _scan(folder), _file(folder, "masks.dcm", data)

    def masks() -> None:
        for _, mask in read_named_masks(path, folder / "series", axis="coronal") or ():
            misplacement(scan, mask)

    _each(lambda: mask_names(path), masks)


def _rle(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.formats.coco_masks import decode_segmentation
    from seg_pipeline.segmentation.images.masks import decode_rle, encode_rle, read_rle

    text = data.decode("utf-8", "surrogateescape")

    def same() -> None:
        found = read_rle(text, SHAPE, order="C")
        if found.area != found.mask.sum() or found.rle not in (None, encode_rle(found.mask, order="C")):
            raise UnexpectedError("the area or the canonical run lengths are wrong")

    segmentation = {"size": list(SHAPE), "counts": text}
    calls = [same, lambda: decode_rle(text, SHAPE, order="F", first=0)]
    _each(*calls, lambda: decode_segmentation(segmentation, SHAPE))


def _coco(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.formats.coco import list_images, read_coco

    if not (folder / "a.png").exists():
        (folder / "a.png").write_bytes(seeds._pil(seeds.GREY, "PNG"))
    path = _file(folder, "coco.json", data)
    for orientation in ("apply", "keep"):
        _each(lambda: read_coco(path, folder, crowd="apart", orientation=orientation))  # noqa: B023  called at once
    _each(lambda: list_images(path, folder, root=folder))


def _label_tool(tool: Any) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from seg_pipeline.segmentation.formats.label_tools import ReadRules, read_annotations

        place = folder / tool
        for name in ("a.png", "img/a.png"):
            if not (place / name).exists():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(seeds._pil(seeds.GREY, "PNG"))
        of_files = tool in ("cvat", "label_studio", "via")
        (place / "ann").mkdir(exist_ok=True)
        path = _file(place, "annotations", data) if of_files else _file(place, "ann/a.png.json", data)
        rules = ReadRules(annotators="vote", empty_images="negative")
        read_annotations(tool, path if of_files else place, place, rules)

    return read


def _nnunet(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.formats.volume_cases import read_nnunet

    for part, name in (("imagesTr", "a_0000.png"), ("labelsTr", "a.png")):
        if not (folder / part / name).exists():
            (folder / part).mkdir(exist_ok=True)
            (folder / part / name).write_bytes(seeds._pil(seeds.GREY, "PNG"))
    _file(folder, "dataset.json", data)
    read_nnunet(folder, channels=None, names=".+")


def _table(separator: str, **form: Any) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from kedro_datasets.pandas import CSVDataset

        from seg_pipeline.segmentation.images.masks import decode_rle
        from seg_pipeline.segmentation.manifest.metadata import clean_annotations, pivot_annotations

        path = _file(folder, "table.csv", data)
        arguments = {"dtype": str, "keep_default_na": False, "na_values": [""], "skip_blank_lines": False}
        table = CSVDataset(filepath=str(path), load_args={"sep": separator, **arguments}).load()
        classes = {"liver": "liver", "spleen": "spleen"}
        rows, _ = clean_annotations(table, mask_format="rle", class_values=classes, multiple_masks="merge", **form)
        wide = pivot_annotations(rows, list(classes))
        for masks in wide["mask_liver"]:
            for mask in masks:
                _each(lambda: decode_rle(mask, SHAPE, order="C"))  # noqa: B023  called at once

    return read


def _list(name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from seg_pipeline.segmentation.inference.prefetch import Reader
        from seg_pipeline.segmentation.inference.sources import find_images
        from seg_pipeline.segmentation.settings.training import InputSettings

        if not (folder / "a.png").exists():
            (folder / "a.png").write_bytes(seeds._pil(seeds.GREY, "PNG"))
        table, _ = find_images(_file(folder, name, data))
        Reader(table, InputSettings()).load(0)

    return read


def _parquet(data: bytes, folder: Path) -> None:
    from seg_pipeline.datasets.atomic import ParquetDataset
    from seg_pipeline.segmentation.manifest.table_schemas import ANNOTATIONS

    ANNOTATIONS.validate(ParquetDataset(filepath=str(_file(folder, "annotations.parquet", data))).load())


def _journal(data: bytes, folder: Path, part: str = "images.jsonl") -> None:
    import json

    from seg_pipeline.segmentation.inference.journal import Journal
    from seg_pipeline.segmentation.inference.outputs import area_table

    run = folder / "run"
    run.mkdir(exist_ok=True)
    about = json.loads(seeds.forms()["journal_settings"].seed)
    (run / "run.json").write_text(json.dumps(about))
    _file(run, part, data)
    journal = Journal(run, about)
    with journal.only_writer():
        areas = area_table([record for record in journal.records.values() if "rule" not in record])
        journal.keep(lambda record: len(areas) > 2 or record["signature"] == [1, 2])


def _checkpoint(data: bytes, folder: Path) -> None:
    import torch

    from seg_pipeline.datasets.checkpoint import CheckpointDataset
    from seg_pipeline.segmentation.prediction.checkpoint_predictor import checkpoint_predictor

    loaded = CheckpointDataset(filepath=str(_file(folder, "checkpoint.pt", data))).load()
    predictor = checkpoint_predictor(loaded, device=torch.device("cpu"))
    predictor.masks(predictor.probabilities(seeds.GREY))


def _bundle(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.prediction.predictor import Predictor

    if not (folder / "model.onnx").exists():
        seeds.write_bundle(folder, seeds.network())
    _file(folder, "bundle.json", data)
    predictor = Predictor(folder, threads=1)
    predictor.masks(predictor.probabilities(seeds.GREY))


def _onnx(data: bytes, folder: Path) -> None:
    from seg_pipeline.segmentation.prediction.predictor import Predictor

    seeds.write_bundle(folder, data)
    predictor = Predictor(folder, threads=1)
    predictor.masks(predictor.probabilities(seeds.GREY))


def _http(data: bytes, folder: Path) -> None:
    """Through the protocol and the whole application, without a socket."""
    told = _Server.of(folder).answer(data)
    for status in told:
        if status >= 500:
            raise UnexpectedError(f"answered with {status}")


class _Server:
    def __init__(self, folder: Path) -> None:
        import uvicorn

        from seg_pipeline.segmentation.prediction.predictor import Predictor
        from seg_pipeline.serving.app import make_app
        from seg_pipeline.serving.settings import Settings

        seeds.write_bundle(folder, seeds.network())
        settings = Settings(max_pixels=MAX_PIXELS, max_bytes=1_000_000, token="secret", workers=1, timeout=5)
        self._app = make_app(Predictor(folder, threads=1), settings)
        self._loop = asyncio.new_event_loop()
        self._config = uvicorn.Config(self._app, log_config=None, server_header=False)
        self._config.load()

    @classmethod
    @cache
    def of(cls, folder: Path) -> _Server:
        return cls(folder)

    def answer(self, data: bytes) -> list[int]:
        return self._loop.run_until_complete(self._answer(data))

    async def _answer(self, data: bytes) -> list[int]:
        from uvicorn.server import ServerState

        from seg_pipeline.serving.protocol import LimitedProtocol

        state, transport = ServerState(), _Transport()
        protocol = LimitedProtocol(self._config, state, app_state={}, _loop=self._loop)
        protocol.connection_made(transport)  # type: ignore[arg-type]
        for at in range(0, len(data), 4096):
            if not transport.closed:
                protocol.data_received(data[at : at + 4096])
                await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        waiting = [task for task in state.tasks if protocol.cycle and protocol.cycle.more_body]
        if waiting:  # for the rest of a body that does not come
            protocol.connection_lost(None)
        if state.tasks:
            await asyncio.wait(state.tasks)
        if not waiting:
            protocol.connection_lost(None)
        return transport.statuses()


class _Transport:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.written, self.closed = bytearray(), False

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50_000) if name in ("peername", "sockname") else default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def statuses(self) -> list[int]:
        import re

        return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", bytes(self.written))]


LONG = {"columns": {"image_id": "id", "class": "class", "mask": "segmentation"}}
WIDE_FORM = {"columns": {"image_id": "id", "class": None, "mask": ["liver", "spleen"]}}
READERS: dict[str, Callable[[bytes, Path], None]] = {
    "image": _image,
    "nii": _volume("a.nii"),
    "nii.gz": _volume("a.nii.gz"),
    "nrrd": _volume("a.nrrd"),
    "mha": _volume("a.mha"),
    "dcm": _volume("a.dcm"),
    "series": _series,
    "rtstruct": _named_masks,
    "dcm_seg": _named_masks,
    "rle": _rle,
    "coco": _coco,
    "csv": _table(",", **LONG),
    "csv_wide": _table(";", **WIDE_FORM),
    "images.csv": _list("images.csv"),
    "images.txt": _list("images.txt"),
    "images.parquet": _list("images.parquet"),
    "nnunet": _nnunet,
    **{tool: _label_tool(tool) for tool in ("cvat", "label_studio", "labelme", "via", "supervisely")},
    "parquet": _parquet,
    "journal": _journal,
    "journal_settings": lambda data, folder: _journal(data, folder, "run.json"),
    "checkpoint": _checkpoint,
    "onnx": _onnx,
    "bundle": _bundle,
    "http": _http,
}
