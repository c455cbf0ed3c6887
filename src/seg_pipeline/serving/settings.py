"""What a server allows; the defaults are those of `seg-pipeline serve`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    max_bytes: int = 20_000_000
    """Of an uploaded file."""
    max_pixels: int = 16_777_216
    """Of an image, as its header claims them: 4096 x 4096."""
    workers: int = 2
    """Images that are computed at once."""
    queue: int = 32
    """Requests beyond those, waiting or still sending; the next is told to come back."""
    timeout: float = 30.0
    """Seconds from a request's first byte to its answer."""
    token: str | None = None
    """What `Authorization: Bearer` must hold; None: everybody is served."""
    hosts: tuple[str, ...] = ()
    """Names beside localhost and addresses that the server answers for."""

    def __post_init__(self) -> None:
        least = {"max_bytes": 1, "max_pixels": 1, "workers": 1, "queue": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"`{name}` must be at least {bound}, found {getattr(self, name)}")
        if not self.timeout > 0:
            raise ValueError(f"`timeout` must be more than 0 seconds, found {self.timeout}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ValueError("`token` must be printable ASCII characters, and some; found others or none")
