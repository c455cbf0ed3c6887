"""The file in a multipart form, read into memory and never to disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from seg_pipeline.serving.refusals import Refusal

FIELD = "image"
FORM_BYTES = 8192
"""Of the form around the file: boundaries, headers, small fields."""


@dataclass(frozen=True)
class Upload:
    name: str
    data: bytes


async def read_upload(request: Request, *, max_bytes: int, deadline: float) -> Upload:
    """The form's field ``image``; ``deadline`` is a time of the event loop's clock.

    Raises:
        Refusal: 400 for a form that is broken, broken off or without the field; 408 for a slow one, 413 for a
            large one, 415 for another kind of body.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        words = f"the body must be multipart/form-data with a file in the field `{FIELD}`"
        raise Refusal(415, "not_a_form", words)
    declared = request.headers.get("content-length", "")
    _check_size(int(declared) if declared.isdecimal() else 0, max_bytes)
    try:
        async with asyncio.timeout_at(deadline):
            upload = await _parsed(request, max_bytes)
    except TimeoutError:
        raise Refusal(408, "slow_upload", "the file did not arrive in time; send it again") from None
    except (MultiPartException, ClientDisconnect) as error:
        words = getattr(error, "message", "it was broken off")
        raise Refusal(400, "broken_form", f"the form cannot be read: {words}") from None
    if len(upload.data) > max_bytes:
        raise _too_large(max_bytes)
    return upload


async def _parsed(request: Request, max_bytes: int) -> Upload:
    parser = MultiPartParser(request.headers, _bounded(request.stream(), max_bytes), max_files=1, max_fields=10)
    parser.spool_max_size = max_bytes + 2 * FORM_BYTES  # beyond this Starlette would go on in a file
    form = await parser.parse()
    try:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise Refusal(400, "no_file", f"the form has no file in the field `{FIELD}`")
        return Upload(file.filename or FIELD, await file.read())
    finally:
        await form.close()


async def _bounded(stream: AsyncGenerator[bytes, None], max_bytes: int) -> AsyncGenerator[bytes, None]:
    seen = 0
    async for chunk in stream:
        seen += len(chunk)
        _check_size(seen, max_bytes)
        yield chunk


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes + FORM_BYTES:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, "file_too_large", f"the file has more than the {max_bytes:,} bytes that this server takes")
