"""Limit the size and time of request headers, and the number of open connections.

uvicorn's parser has no such limits: it read 600 MB of headers into memory, and idle half-sent requests kept their
file descriptors.
"""

import asyncio
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seg_pipeline.serving.guard import HEADERS, error_response
from seg_pipeline.serving.schema import RequestError

MAX_CONNECTIONS = 256
MAX_HEADER_BYTES = 65_536
HEADER_SECONDS = 10.0
"""Maximum time from the connection, or the first byte of a later request on it, to the end of the headers."""
TOO_LARGE = RequestError(431, "headers", f"the headers exceed this server's limit of {MAX_HEADER_BYTES:,} bytes")
TOO_SLOW = RequestError(408, "slow_headers", f"the headers were not sent within {HEADER_SECONDS:g} seconds")


class Server(uvicorn.Server):
    """Reports "not ready" once told to stop, while it still answers requests in progress."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.served.readiness.is_stopping = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


class LimitedProtocol(HttpToolsProtocol):
    _header_bytes = 0
    _in_headers = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
            if self._timer is None:
                self._start_timer()
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers, self._header_bytes = True, 0

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._refuse, TOO_SLOW)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, error: RequestError) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        response = error_response(error)
        for name, value in {**HEADERS, "Connection": "close"}.items():
            response.headers[name] = value
        lines = [b"HTTP/1.1 %d Refused" % error.status, *(b": ".join(pair) for pair in response.raw_headers)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.close()
