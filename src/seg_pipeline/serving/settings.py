"""Limits of a server; the defaults are those of `seg-pipeline serve`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    max_bytes: int = 20_000_000
    """Largest uploaded file, in bytes."""
    max_pixels: int = 16_777_216
    """Largest image in pixels, according to its header: 4096 x 4096."""
    workers: int = 2
    """Images predicted at the same time."""
    queue: int = 32
    """Further requests that may wait or upload; beyond them the server responds 429."""
    timeout: float = 30.0
    """Longest time from request to response, in seconds."""
    decode_seconds: float = 10.0
    """Longest time to decode one file, in seconds."""
    stop_seconds: float = 5.0
    """Longest time to stop, in seconds; requests still in progress after it are not answered."""
    client_concurrency: int = 0
    """API requests of one client in progress at once; 0: no limit per client."""
    client_requests: int = 0
    """API requests of one client per minute; 0: no limit."""
    token: str | None = None
    """Token expected in `Authorization: Bearer`; None: no token is needed."""
    save: Path | None = None
    """Folder for corrected masks; None: nothing is ever written."""
    examples: Path | None = None
    """Folder of example images for the page; None: `examples` in the bundle, if it exists."""
    hosts: tuple[str, ...] = ()
    """Host names accepted besides localhost and IP addresses."""

    def __post_init__(self) -> None:
        minimum = dict.fromkeys(("max_bytes", "max_pixels", "workers"), 1)
        minimum |= dict.fromkeys(("queue", "client_concurrency", "client_requests"), 0)
        for name, bound in minimum.items():
            if getattr(self, name) < bound:
                raise ValueError(f"`{name}` must be at least {bound}, found {getattr(self, name)}")
        for name in ("timeout", "decode_seconds", "stop_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be more than 0 seconds, found {getattr(self, name)}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ValueError("`token` must be non-empty printable ASCII text")
