"""Names of processes that stay unique when the system reuses their numbers."""

from __future__ import annotations


def life_of(process: int) -> str:
    """The number of a process and the second it started."""
    import psutil

    try:
        return f"{process}-{int(psutil.Process(process).create_time())}"
    except psutil.NoSuchProcess:
        return f"{process}-0"


def lives(life: str) -> bool:
    """Whether the process that ``life_of`` named is still running."""
    return life_of(int(life.partition("-")[0])) == life
