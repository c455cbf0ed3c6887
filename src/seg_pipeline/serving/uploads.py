"""Read the files of a multipart form into memory, with a limit on their size."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from seg_pipeline.serving.schema import RequestError

FIELD = "image"
FORM_BYTES = 8192
"""Allowance for the form around the file: boundaries, headers, small fields."""


class _FormParser(MultiPartParser):
    """Starlette's parser without its defaults of writing files over 1 MB to disk and accepting truncated forms."""

    def __init__(self, request: Request, max_bytes: int, number: int) -> None:
        super().__init__(request.headers, self._checked(request, max_bytes, number * max_bytes + FORM_BYTES))
        self.spool_max_size = number * max_bytes + FORM_BYTES
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    async def _checked(self, request: Request, max_bytes: int, limit: int) -> AsyncGenerator[bytes, None]:
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            _check_size(received, limit, max_bytes)
            yield chunk
        if not self._ended:
            raise MultiPartException("no closing boundary")


async def read_upload(request: Request, *, max_bytes: int, deadline: float) -> tuple[str, bytes]:
    """Name and contents of the file in the form's field ``image``; raises like ``read_form``."""
    return (await read_form(request, (FIELD,), max_bytes=max_bytes, deadline=deadline))[FIELD]


async def read_form(
    request: Request, fields: Sequence[str], *, max_bytes: int, deadline: float
) -> dict[str, tuple[str, bytes]]:
    """Name and contents of the file in each field of a form; ``deadline`` is a time of the event loop's clock.

    Raises:
        RequestError: 400 for a malformed or incomplete form, or a field without exactly one file; 408 for a timeout,
            413 for a file that is too large, 415 for another content type.
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise RequestError(415, "not_a_form", f"the body must be multipart/form-data with the file in `{FIELD}`")
    declared = request.headers.get("content-length", "")
    _check_size(int(declared) if declared.isdecimal() else 0, len(fields) * max_bytes + FORM_BYTES, max_bytes)
    try:
        async with asyncio.timeout_at(deadline):
            form = await _FormParser(request, max_bytes, len(fields)).parse()
    except TimeoutError:
        raise RequestError(408, "slow_upload", "the upload timed out; send it again") from None
    except (MultiPartException, ClientDisconnect):
        raise RequestError(400, "broken_form", "the form is malformed or incomplete") from None
    uploads = {}
    try:
        for field in fields:
            files = [file for file in form.getlist(field) if isinstance(file, UploadFile)]
            if len(files) != 1:
                detail = f"the form must contain exactly one file in `{field}`, found {len(files)}"
                raise RequestError(400, "not_one_file", detail)
            uploads[field] = files[0].filename or field, await files[0].read()
    finally:
        await form.close()
    for _, data in uploads.values():
        _check_size(len(data), max_bytes, max_bytes)
    return uploads


def _check_size(size: int, limit: int, shown_limit: int) -> None:
    if size > limit:
        raise RequestError(413, "file_too_large", f"the file exceeds this server's limit of {shown_limit:,} bytes")
