"""Small sound files of every form that comes from outside, by name; ``__main__`` damages them."""

import base64
import gzip
import io
import json
import random
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from tests.runs.fuzz.mutations import mutate, mutate_tree

GREY = (np.add.outer(np.arange(24), np.arange(40)) * 4).astype(np.uint8)
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
GREY16 = GREY.astype(np.uint16) * 250 + 3
VOXELS = np.fromfunction(lambda x, y, z: 100 * z + 10 * y + x, (6, 5, 3)).astype(np.int16)
AFFINE = np.array([[-1.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])

NAMES = [
    "png_grey", "png_16", "png_palette", "png_alpha", "png_1_bit", "png_exif", "jpeg", "jpeg_progressive_exif",
    "jpeg_cmyk", "bmp", "bmp_palette", "gif", "gif_animated", "webp", "webp_animated", "pgm", "tiff_16",
    "tiff_big_endian", "tiff_big", "tiff_tiled", "tiff_planar", "tiff_float", "tiff_palette", "tiff_1_bit",
    "tiff_jpeg", "tiff_cmyk", "tiff_pages", "tiff_imagej", "tiff_bands", "nifti", "nifti_scaled", "nifti_gzip",
    "nifti_2", "nrrd", "nrrd_gzip", "mha", "mha_gzip", "dicom", "dicom_of_series", "dicom_rtstruct", "dicom_seg",
    "rle", "coco", "csv", "csv_wide", "csv_of_images", "txt_of_images", "nnunet", "parquet_of_images",
    "parquet_of_run", "cvat", "label_studio", "labelme", "via", "supervisely",
    "journal", "journal_settings", "checkpoint", "checkpoint_file", "checkpoint_content", "onnx",
    "bundle", "http_predict", "http_mask", "http_chunked", "http_get",
]  # fmt: skip
"""Of all forms, in the order of ``forms``."""


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


@dataclass(frozen=True)
class Form:
    """A sound input, what reads it, and how mutants are made.

    Attributes:
        reader: a function of ``readers``.
        seed: the input.
        finish: makes most of the mutants whole again (check sums, lengths, packing), so that they reach deeper.
        content: nested dicts and lists that ``encode`` turns into the input; half of the mutants are changes of these.
        share: relative number of mutants; slow readers get fewer.
    """

    reader: str
    seed: bytes
    finish: Callable[[bytes], bytes] | None = None
    content: Any = None
    encode: Callable[[Any], bytes] = _json
    share: float = 1.0

    @property
    def sound(self) -> bytes:
        return self.finish(self.seed) if self.finish else self.seed

    def mutant(self, rng: random.Random, others: list[bytes]) -> bytes:
        if self.content is not None and rng.random() < 0.6:
            return self.encode(mutate_tree(self.content, rng))
        data = mutate(self.seed, rng, others)
        return self.finish(data) if self.finish and rng.random() < 0.8 else data


@cache
def forms() -> dict[str, Form]:
    return dict([*_images(), *_volumes(), *_texts(), *_models(), *_requests()])


def _pil(image: np.ndarray, kind: str, mode: str | None = None, **options: Any) -> bytes:
    file, shown = io.BytesIO(), Image.fromarray(image)
    if options.pop("exif", False):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "about"
        options["exif"] = exif
    (shown.convert(mode) if mode else shown).save(file, kind, **options)
    return file.getvalue()


def _tiff(image: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **options)
    return file.getvalue()


def _images() -> Iterator[tuple[str, Form]]:
    again = [Image.fromarray(255 - COLOUR)]
    files = {
        "png_grey": _pil(GREY, "PNG"),
        "png_16": _pil(GREY16, "PNG"),
        "png_palette": _pil(COLOUR, "PNG", "P"),
        "png_alpha": _pil(np.dstack([COLOUR, GREY]), "PNG"),
        "png_1_bit": _pil(GREY, "PNG", "1"),
        "png_exif": _pil(COLOUR, "PNG", exif=True),
        "jpeg": _pil(GREY, "JPEG"),
        "jpeg_progressive_exif": _pil(COLOUR, "JPEG", progressive=True, exif=True),
        "jpeg_cmyk": _pil(COLOUR, "JPEG", "CMYK"),
        "bmp": _pil(COLOUR, "BMP"),
        "bmp_palette": _pil(GREY, "BMP", "P"),
        "gif": _pil(GREY, "GIF"),
        "gif_animated": _pil(COLOUR, "GIF", save_all=True, append_images=again),
        "webp": _pil(COLOUR, "WEBP", exif=True),
        "webp_animated": _pil(COLOUR, "WEBP", save_all=True, append_images=again, lossless=True),
        "pgm": _pil(GREY16, "PPM"),
        "tiff_16": _tiff(GREY16),
        "tiff_big_endian": _tiff(GREY16, byteorder=">", rowsperstrip=5),
        "tiff_big": _tiff(COLOUR, bigtiff=True, compression="deflate", photometric="rgb"),
        "tiff_tiled": _tiff(GREY16, tile=(16, 16), compression="lzw", predictor=True),
        "tiff_planar": _tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate"),
        "tiff_float": _tiff(GREY.astype(np.float32), compression="zstd"),
        "tiff_palette": _pil(COLOUR, "TIFF", "P"),
        "tiff_1_bit": _pil(GREY, "TIFF", "1", compression="group4"),
        "tiff_jpeg": _tiff(COLOUR, compression="jpeg", photometric="ycbcr", tile=(16, 16)),
        "tiff_cmyk": _pil(COLOUR, "TIFF", "CMYK", compression="packbits"),
        "tiff_pages": _pil(COLOUR, "TIFF", save_all=True, append_images=again),
        "tiff_imagej": _tiff(np.stack([GREY16, GREY16]), imagej=True),
        "tiff_bands": _tiff(np.dstack([COLOUR, COLOUR]), photometric="minisblack", planarconfig="contig"),
    }
    for name, data in files.items():
        yield name, Form("image", data, _png_sums if name.startswith("png") else None)


def _png_sums(data: bytes) -> bytes:
    """A PNG whose check sums are right."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        parts += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join([*parts, data[at:]])


def _volumes() -> Iterator[tuple[str, Form]]:
    import nibabel
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def written(file: str, write: Callable[[Path], Any]) -> bytes:
            write(folder / file)
            return (folder / file).read_bytes()

        nifti = written("a.nii", lambda path: nibabel.save(nibabel.Nifti1Image(VOXELS, AFFINE), path))
        scaled = nibabel.Nifti1Image(VOXELS.astype(np.float32) / 3, AFFINE)
        scaled.header.set_data_dtype(np.int16)
        yield "nifti", Form("nii", nifti, share=0.5)
        yield "nifti_scaled", Form("nii", written("b.nii", lambda path: nibabel.save(scaled, path)), share=0.5)
        yield "nifti_gzip", Form("nii.gz", nifti, gzip.compress, share=0.5)
        flat = nibabel.Nifti2Image(VOXELS[:, :, 0].astype(np.uint8), AFFINE)
        yield "nifti_2", Form("nii", written("c.nii", lambda path: nibabel.save(flat, path)), share=0.5)
        image = sitk.GetImageFromArray(VOXELS.T)
        for file, packed in (("a.nrrd", False), ("b.nrrd", True), ("a.mha", False), ("b.mha", True)):
            data = written(file, lambda path, packed=packed: sitk.WriteImage(image, str(path), packed))
            kind = file.partition(".")[2]
            yield f"{kind}_gzip" if packed else kind, Form(kind, data, share=0.4)
        slices = [_slice(number) for number in range(3)]
        yield "dicom", Form("dcm", written("a.dcm", _saver(slices[0])), share=0.3)
        yield "dicom_of_series", Form("series", written("b.dcm", _saver(slices[1])), share=0.3)
        yield "dicom_rtstruct", Form("rtstruct", written("c.dcm", _saver(_contours())), share=0.3)
        yield "dicom_seg", Form("dcm_seg", written("d.dcm", _saver(_segments(slices))), share=0.05)


def _saver(one: Any) -> Callable[[Path], Any]:
    return lambda path: one.save_as(path, enforce_file_format=True)


def _dicom(kind: str, modality: str, number: int) -> Any:
    import pydicom

    one, meta = pydicom.Dataset(), pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.file_meta = meta
    one.SOPClassUID = meta.MediaStorageSOPClassUID = kind
    one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
    one.Modality, one.SeriesInstanceUID, one.StudyInstanceUID = modality, "1.2.3.4", "1.2.3"
    one.FrameOfReferenceUID, one.PatientID, one.PatientName, one.StudyID = "1.2.3.5", "p", "p^", "s"
    one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = one.AccessionNumber = ""
    return one


def _slice(number: int) -> Any:
    one = _dicom("1.2.840.10008.5.1.4.1.1.2", "CT", number + 1)
    one.Columns, one.Rows = VOXELS.shape[:2]
    one.ImageOrientationPatient, one.PixelSpacing = [1, 0, 0, 0, 1, 0], [2, 1]
    one.ImagePositionPatient, one.SliceThickness = [-10, -20, 30 + 5 * number], 5
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 1
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
    one.RescaleSlope, one.RescaleIntercept = 1, -1000
    one.PixelData = VOXELS[..., number].T.tobytes()
    return one


def _contours() -> Any:
    import pydicom

    one = _dicom("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", 99)
    region, drawn, contour = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    region.ROINumber, region.ROIName, drawn.ReferencedROINumber = 1, "liver", 1
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = [-10.5, -21, 40, -6.5, -21, 40, -6.5, -15, 40, -10.5, -15, 40]
    drawn.ContourSequence = [contour]
    one.StructureSetROISequence, one.ROIContourSequence = [region], [drawn]
    return one


def _segments(slices: list[Any]) -> Any:
    import highdicom

    code = highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    manual = highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    masks = np.zeros((3, 5, 6), dtype=np.uint8)
    masks[1, 1:3, 2:4] = 1
    return highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[highdicom.seg.SegmentDescription(1, "liver", code, code, manual)],
        series_instance_uid="1.2.9",
        series_number=2,
        sop_instance_uid="1.2.9.1",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 40}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 1, "name": "liver"}, {"id": "2", "name": "spleen"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 30, 2, 20.5, 20]]},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [24, 40], "counts": [30, 5, 925]}},
        {
            "id": 3,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [24, 40], "counts": "n05mm0"},
        },
    ],
}
CVAT = """<annotations><meta><task><status>completed</status></task></meta>
<image id="0" name="a.png" width="40" height="24">
<polygon label="liver" points="1.00,1.00;30.00,2.00;20.50,20.00" z_order="1"/>
<ellipse label="liver" cx="9" cy="9" rx="5" ry="3" z_order="0"/>
<mask label="spleen" rle="3, 5, 4" left="2" top="3" width="4" height="3" z_order="2"/>
</image></annotations>"""
TABLE = 'id,class,segmentation\na,liver,1 3 80 4\nb,spleen,\na,spleen,5 2\n"c,",liver,960 1\n'
WIDE = "id;liver;spleen\na;1 3 80 4;\nb;;7 2\n"
DATASET = {
    "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": [1, 2]}, "numTraining": 1,
    "file_ending": ".png", "name": "x",
}  # fmt: skip


def _texts() -> Iterator[tuple[str, Form]]:
    yield "rle", Form("rle", b"1 3 80 4 200 50 900 60", share=4)
    coco = json.dumps(COCO).encode()
    yield "coco", Form("coco", coco, content=COCO, share=2)
    yield "csv", Form("csv", TABLE.encode(), share=0.4)
    yield "csv_wide", Form("csv_wide", WIDE.encode(), share=0.4)
    yield (
        "csv_of_images",
        Form("images.csv", b"path,image_id,height,frame\na.png,a,24,1\nsub/b.png,b,30,2\n", share=0.5),
    )
    yield "txt_of_images", Form("images.txt", "a.png\n# no\nsub/b.png\n\u00e4.png\n".encode())
    yield "nnunet", Form("nnunet", json.dumps(DATASET).encode(), content=DATASET, share=0.5)
    table = pd.DataFrame({"path": ["a.png", "b.png"], "image_id": ["a", "b"], "height": [24, 30]})
    yield "parquet_of_images", Form("images.parquet", _parquet(table), share=0.3)
    yield "parquet_of_run", Form("parquet", _parquet(_annotations()), share=0.3)
    yield from _label_tools()
    run = {"model": {"sha256": "0", "format": "onnx", "classes": ["liver"]}, "output": {"masks": True}}
    lines: list[dict[str, Any]] = [
        {"image_id": name, "file": f"{name}.png", "signature": [1, 2], "height": 24, "width": 40}
        | {"classes": {"liver": ["1 3", 3, 0.9, 0.95]}}
        for name in "ab"
    ]
    lines.append({"image_id": "c", "file": "c.png", "signature": [-1, -1], "rule": "io_error", "reason": "gone"})
    yield "journal", Form("journal", _lines(lines), content=lines, encode=_lines, share=0.5)
    yield "journal_settings", Form("journal_settings", json.dumps(run).encode(), content=run, share=0.5)


def _label_tools() -> Iterator[tuple[str, Form]]:
    """A mask, a polygon and a circle or ellipse of each tool."""
    from seg_pipeline.segmentation.formats.label_tools.label_studio import encode_brush

    mask = GREY > 80
    png = base64.b64encode(_pil(GREY, "PNG", "1")).decode()
    points = [[1, 1], [30, 2], [20.5, 20]]
    yield "cvat", Form("cvat", CVAT.encode(), share=0.5)
    kinds: list[dict[str, Any]] = [
        {"rle": encode_brush(mask), "format": "rle", "brushlabels": ["liver"]},
        {"points": points, "polygonlabels": ["liver"]},
        {"x": 50, "y": 50, "radiusX": 9, "radiusY": 5, "ellipselabels": ["spleen"]},
    ]
    results = [
        {"id": str(number), "original_height": 24, "original_width": 40, "value": value}
        for number, value in enumerate(kinds)
    ]
    studio = [
        {"data": {"image": "/data/local-files/?d=a.png"}, "annotations": [{"completed_by": 1, "result": results}]}
    ]
    yield "label_studio", Form("label_studio", _json(studio), content=studio, share=0.5)
    shapes = [
        {"label": "liver", "shape_type": "polygon", "points": points},
        {"label": "liver", "shape_type": "circle", "points": [[9, 9], [12, 9]]},
        {"label": "spleen", "shape_type": "mask", "points": [[0, 0], [39, 23]], "mask": png},
    ]
    labelme = {"imagePath": "../a.png", "imageHeight": 24, "imageWidth": 40, "shapes": shapes}
    yield "labelme", Form("labelme", _json(labelme), content=labelme, share=0.5)
    regions: list[dict[str, Any]] = [
        {"name": "polygon", "all_points_x": [1, 30, 20], "all_points_y": [1, 2, 20]},
        {"name": "ellipse", "cx": 9, "cy": 9, "rx": 5, "ry": 3},
        {"name": "circle", "cx": 9, "cy": 9, "r": 3},
    ]
    listed = [{"shape_attributes": one, "region_attributes": {"class": "liver"}} for one in regions]
    via = {"a.png-1": {"filename": "a.png", "size": 1, "regions": listed, "file_attributes": {}}}
    yield "via", Form("via", _json(via), content=via, share=0.5)
    bitmap = base64.b64encode(zlib.compress(base64.b64decode(png))).decode()
    objects = [
        {"classTitle": "liver", "geometryType": "polygon", "points": {"exterior": points, "interior": [points]}},
        {"classTitle": "spleen", "geometryType": "bitmap", "bitmap": {"origin": [0, 0], "data": bitmap}},
    ]
    supervisely = {"size": {"height": 24, "width": 40}, "objects": objects}
    yield "supervisely", Form("supervisely", _json(supervisely), content=supervisely, share=0.5)


def _lines(content: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in (content if isinstance(content, list) else [content]))


def _annotations() -> pd.DataFrame:
    return pd.DataFrame({"row": [2, 3], "image_id": ["a", "b"], "class": ["liver", "liver"], "mask": ["1 3", ""]})


def _parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


@cache
def checkpoint() -> dict[str, Any]:
    """An ensemble of two untrained networks of timm's smallest encoder."""
    import torch

    from seg_pipeline.segmentation.settings.training import FitSettings, InputSettings, ModelSettings
    from seg_pipeline.segmentation.settings.training_config import TrainingConfig
    from seg_pipeline.segmentation.training.state import start

    config = TrainingConfig(
        task="multilabel",
        classes=("liver", "spleen"),
        model=ModelSettings(encoder="tu-test_efficientnet", encoder_weights=None, decoder_channels=(8, 8, 8, 8)),
        input=InputSettings(size=(32, 64)),
        fit=FitSettings(precision="float32"),
    )
    trained = start(config, "", torch.device("cpu")).best_model()
    about = {"config": config.to_dict(), "data_hash": "d", "folds": 2}
    return {**about, "models": [{"config": config.to_dict(), **trained} for _ in range(2)]}


def _torch_file(content: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def network() -> bytes:
    """An ONNX file: uint8 (B, 3, H, W) to the logits of two classes."""
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, (2, 3, 1, 1), [0.01, 0.02, -0.03, 0.04, -0.05, 0.06])
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["x", "w"], ["logits"], kernel_shape=[1, 1]),
        ],
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2, "H", "W"])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_bundle(folder: Path, onnx: bytes) -> dict[str, Any]:
    """Write a bundle of that network; returns the contents of bundle.json."""
    from seg_pipeline.segmentation.prediction.bundle import Bundle, BundleNetwork, describe_file
    from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
    from seg_pipeline.segmentation.settings.training import InputSettings, PredictSettings

    (folder / "model.onnx").write_bytes(onnx)
    files = {"onnx": describe_file(folder / "model.onnx")}
    one = BundleNetwork(input=InputSettings(size=(32, 64)), mean=(0.5,) * 3, std=(0.5,) * 3, files=files)
    bundle = Bundle(
        folder=folder,
        task="multilabel",
        classes=("liver", "spleen"),
        colours=("#e69f00", "#56b4e9"),
        background=False,
        networks=(one,),
        postprocessing=Postprocessing.none(2, 0.5),
        prediction=PredictSettings(),
        provenance={"models": [{"best": {"val_dice": 0.9}, "weights_sha256": 64 * "f"}], "quality": {"formats": []}},
    )
    bundle.write()
    return bundle.to_dict()


def _models() -> Iterator[tuple[str, Form]]:
    whole = checkpoint()
    file = _torch_file(whole)
    yield "checkpoint", Form("checkpoint", _pickle(file), partial(_with_pickle, file), share=0.3)
    yield "checkpoint_file", Form("checkpoint", file, share=0.1)
    yield "checkpoint_content", Form("checkpoint", file, content=whole, encode=_torch_file, share=0.2)
    onnx = network()
    yield "onnx", Form("onnx", onnx, share=0.5)
    with tempfile.TemporaryDirectory() as folder:
        content = write_bundle(Path(folder), onnx)
        description = (Path(folder) / "bundle.json").read_bytes()
    yield "bundle", Form("bundle", description, content=content, share=0.5)


def _pickle(file: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return next(archive.read(one) for one in archive.infolist() if one.filename.endswith("data.pkl"))


def _with_pickle(file: bytes, pickle: bytes) -> bytes:
    """A checkpoint with another pickle, in a sound archive."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(changed, "w") as new:
        for one in old.infolist():
            new.writestr(one.filename, pickle if one.filename.endswith("data.pkl") else old.read(one))
    return changed.getvalue()


def _requests() -> Iterator[tuple[str, Form]]:
    png, jpeg = _pil(GREY, "PNG"), _pil(COLOUR, "JPEG")
    head = b"POST /api/predict?threshold=0.5&threshold=0.25&include=display HTTP/1.1\r\nHost: localhost\r\n"
    token = b"Authorization: Bearer secret\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=x\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body = part + png + b"\r\n--x--\r\n"
    length = b"Content-Length: %d\r\n\r\n"
    yield "http_predict", Form("http", head + token + kind + length % len(body) + body, _content_length)
    body = part + jpeg + b"\r\n--x--\r\n"
    mask = (
        b"POST /api/predict?response_format=mask HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nOrigin: http://127.0.0.1:8000\r\n"
    )
    yield "http_mask", Form("http", mask + token + kind + length % len(body) + body, _content_length)
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 200]), body[at : at + 200]) for at in range(0, len(body), 200)
    )
    chunked = head + token + kind + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    yield "http_chunked", Form("http", chunked)
    gets = (b"GET /api/model HTTP/1.1\r\nHost: localhost\r\nAccept: image/png\r\n" + token + b"\r\n") * 2
    yield "http_get", Form("http", gets + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


def _content_length(data: bytes) -> bytes:
    """A request that states the length of its body."""
    head, gap, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + gap + body
