"""Two ways of doing one thing, measured in turns in one process, as a line of JSON each.

A benchmark is a script in this folder that ends with ``sys.exit(report(...))``:

    from side_by_side import compare, report

    if __name__ == "__main__":
        sys.exit(report(compare("rle_decode_vs_loop", ours, loop, limit=0.05, runs=5)))

``ratio`` is median_a / median_b and has to stay at or below ``limit``. Turns (a, b, a, b, ...) spread what the
machine does besides over both, so that a ratio holds where seconds do not.
"""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One comparison; ``unit`` is that of the medians."""

    name: str
    ratio: float
    limit: float
    ok: bool
    median_a: float
    median_b: float
    runs: int
    unit: str = "s"
    note: str = ""


@dataclass(frozen=True)
class Skipped:
    """A comparison that this machine cannot make, and why."""

    name: str
    skipped: str


def compare(
    name: str, a: Callable[[], object], b: Callable[[], object], *, limit: float, runs: int = 5, note: str = ""
) -> Result:
    """Seconds of ``a`` over those of ``b``, each called once beforehand and then ``runs`` times in turns.

    With ``runs=1`` the calls beforehand are left out: what runs for minutes needs no warming.
    """
    if runs > 1:
        a(), b()
    turns = [(seconds(a), seconds(b)) for _ in range(runs)]
    return judge(name, [turn[0] for turn in turns], [turn[1] for turn in turns], limit=limit, note=note)


def judge(
    name: str, a: Sequence[float], b: Sequence[float], *, limit: float, unit: str = "s", note: str = ""
) -> Result:
    """The same for values that were measured elsewhere; a bound in seconds or MiB is a ``b`` of one value."""
    median_a, median_b = statistics.median(a), statistics.median(b)
    ratio = median_a / median_b
    return Result(
        name, _rounded(ratio), limit, ratio <= limit, _rounded(median_a), _rounded(median_b), len(a), unit, note
    )


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call; the garbage of what ran before it is not on its bill."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_mib(code: str) -> float:
    """Largest resident memory, MiB, of a fresh Python that runs ``code`` (processes that it starts apart).

    Raises:
        RuntimeError: the code failed.
    """
    tell = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport side_by_side\n"
    code = f"{code}\n{tell}print(side_by_side.own_peak_mib())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the measured code ended with {done.returncode}")
    return float(done.stdout.splitlines()[-1])


def own_peak_mib() -> float:
    """Of this process so far. Linux's getrusage would count what the parent held when it started the child."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def report(*results: Result | Skipped) -> int:
    """Prints a line of JSON for each, at once; returns the exit code: 1 when one is not ok."""
    for result in results:
        print(json.dumps(asdict(result)), flush=True)
    return exit_code(results)


def exit_code(results: Iterable[Result | Skipped]) -> int:
    return int(any(isinstance(result, Result) and not result.ok for result in results))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
