"""Errors that are sent to the client."""

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Body of every response with status 400 or above."""

    error: str = Field(description="Short name, for programs.")
    detail: str = Field(description="What was found, what was expected and what to do, for people.")


class RequestError(Exception):
    def __init__(self, status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers or {}
        self.problem = Problem(error=error, detail=detail)
