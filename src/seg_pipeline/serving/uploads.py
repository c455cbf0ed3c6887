"""Reads the file of a multipart form into memory.

Starlette's own form parser writes files over 1 MB to disk and has no limit on their size.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from seg_pipeline.serving.errors import RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "image"
FORM_BYTES = 8192
"""Allowance for the form around the file: boundaries, headers, small fields."""


@dataclass(frozen=True)
class Upload:
    name: str
    data: bytes


async def read_upload(request: Request, *, max_bytes: int, deadline: float) -> Upload:
    """The file in the form's field ``image``; ``deadline`` is a time of the event loop's clock.

    Raises:
        RequestError: 400 for a malformed or incomplete form, or one without exactly one file; 408 for a timeout,
            413 for a file that is too large, 415 for another content type.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise RequestError(415, "not_a_form", f"the body must be multipart/form-data with the file in `{FIELD}`")
    declared = request.headers.get("content-length", "")
    _check_size(int(declared) if declared.isdecimal() else 0, max_bytes + FORM_BYTES, max_bytes)
    try:
        async with asyncio.timeout_at(deadline):
            upload = await _parsed(request, options.get(b"boundary", b""), max_bytes)
    except TimeoutError:
        raise RequestError(408, "slow_upload", "the upload timed out; send it again") from None
    except (FormParserError, ClientDisconnect):
        raise RequestError(400, "broken_form", "the form is malformed or incomplete") from None
    _check_size(len(upload.data), max_bytes, max_bytes)
    return upload


async def _parsed(request: Request, boundary: bytes, max_bytes: int) -> Upload:
    form = _Form()
    parser = MultipartParser(boundary, form.callbacks())
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        _check_size(seen, max_bytes + FORM_BYTES, max_bytes)
        parser.write(chunk)
    if not form.ended:
        raise FormParserError("no closing boundary")
    if len(form.uploads) != 1:
        raise RequestError(
            400,
            "not_one_file",
            f"the form must contain exactly one file in `{FIELD}`, found {len(form.uploads)}",
        )
    return form.uploads[0]


class _Form:
    """Collects the parts that the parser reports."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value, self._data = bytearray(), bytearray(), bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _end_header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _end_part(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        if options.get(b"name") == FIELD.encode() and b"filename" in options:
            name = options[b"filename"].decode("utf-8", "replace")
            self.uploads.append(Upload(name or FIELD, bytes(self._data)))
        self._headers = {}
        self._data = bytearray()

    def _end(self) -> None:
        self.ended = True


def _check_size(size: int, limit: int, told: int) -> None:
    if size > limit:
        raise RequestError(413, "file_too_large", f"the file exceeds this server's limit of {told:,} bytes")
