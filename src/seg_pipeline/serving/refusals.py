"""A request that is not answered as asked."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Body of every answer of 400 and above."""

    error: str = Field(description="A short name for programs.")
    detail: str = Field(description="What was found, what was expected, what to do: for people.")


class Refusal(Exception):
    def __init__(self, status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers or {}
        self.problem = Problem(error=error, detail=detail)
