"""Middleware that checks every request and adds security headers to every response."""

import ipaddress
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seg_pipeline.serving.metrics import Metrics
from seg_pipeline.serving.queue import ClientLimits
from seg_pipeline.serving.schema import RequestError
from seg_pipeline.serving.settings import Settings

log = logging.getLogger("uvicorn.error")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
SERVER_ERROR = RequestError(500, "fault", "the server failed; its log has the reason")
PROTECTED = ("/api/", "/metrics")
"""Path prefixes that need the token; the page itself contains no secret."""
COUNTED = ("/", "/api/model", "/api/predict", "/api/save", "/docs", "/healthz", "/metrics", "/openapi.json", "/readyz")


class Guard:
    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.clients = ClientLimits(concurrent=settings.client_concurrency, per_minute=settings.client_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(scope, message)
            await send(message)

        try:
            with self._admit(scope):
                await self.app(scope, receive, send_guarded)
        except RequestError as error:
            await error_response(error)(scope, receive, send_guarded)
        except Exception:  # a bug; Starlette's own response would bypass this guard
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            await error_response(SERVER_ERROR)(scope, receive, send_guarded)

    @contextmanager
    def _admit(self, scope: Scope) -> Iterator[None]:
        """Check the client's limits first, so that wrong tokens count too."""
        if not scope["path"].startswith("/api/"):
            check(scope, self.settings)
            yield
            return
        with self.clients.admit((scope.get("client") or ("",))[0]):
            check(scope, self.settings)
            yield

    def _add_headers(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault("Cache-Control", "no-store" if scope["path"].startswith(PROTECTED) else "no-cache")
        path = scope["path"] if scope["path"] in COUNTED else "other"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        self.metrics.count(method, path, message["status"])


def error_response(error: RequestError) -> JSONResponse:
    return JSONResponse(error.problem.model_dump(), error.status, error.headers)


def check(scope: Scope, settings: Settings) -> None:
    """Check the Host and Origin headers and the token.

    Raises:
        RequestError: 400, 403 or 401, in this order.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not _is_allowed_host(host, settings.hosts):
        detail = f"unknown Host header {host!r}; to allow it, start the server with --allow-host NAME"
        raise RequestError(400, "unknown_host", detail)
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        detail = f"cross-origin request from {origin!r} refused; behind a proxy, forward the Host header"
        raise RequestError(403, "cross_origin", detail)
    if settings.token is not None and scope["path"].startswith(PROTECTED):
        _check_token(headers.get("authorization", ""), settings.token)


def _is_allowed_host(host: str, names: tuple[str, ...]) -> bool:
    """Whether a Host header may belong to this server.

    In a DNS-rebinding attack, a foreign page points its own host name at this server, and the browser sends that name;
    an IP address cannot be abused in this way.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        if name in ("localhost", *(allowed.lower() for allowed in names)):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_token(authorization: str, token: str) -> None:
    scheme, _, sent = authorization.partition(" ")
    # compare_digest takes constant time; on str it accepts ASCII only, so compare bytes
    if scheme.lower() != "bearer" or not secrets.compare_digest(sent.strip().encode(), token.encode()):
        detail = "a token is required: send the header `Authorization: Bearer TOKEN`"
        raise RequestError(401, "token", detail, {"WWW-Authenticate": "Bearer"})
