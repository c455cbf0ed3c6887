"""Request metrics in Prometheus's text format, version 0.0.4.

Written by hand, to avoid the dependency prometheus_client for 40 lines.
"""

from bisect import bisect_left
from collections import Counter

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram's buckets, in seconds."""
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters without locks, because only the event loop's thread updates them."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def count(self, method: str, path: str, status: int) -> None:
        self.requests[method, path, status] += 1

    def record_seconds(self, seconds: float) -> None:
        """Record the time of a successful prediction."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def text(self, *, held: int, limit: int) -> str:
        lines = [
            *_metadata_lines("requests_total", "counter", "Requests answered, by method, path and status."),
            *(
                f'seg_pipeline_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}'
                for (method, path, status), count in sorted(self.requests.items())
            ),
            *_metadata_lines(
                "predict_seconds", "histogram", "Time from request to response of successful predictions."
            ),
            *self._histogram(),
            *_metadata_lines("places_held", "gauge", "Requests being received, waiting or computed."),
            f"seg_pipeline_places_held {held}",
            *_metadata_lines(
                "places", "gauge", "Largest number of simultaneous requests; beyond it the server responds 429."
            ),
            f"seg_pipeline_places {limit}",
        ]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        total, lines = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.buckets, strict=True):
            total += count
            lines.append(f'seg_pipeline_predict_seconds_bucket{{le="{bound}"}} {total}')
        return [
            *lines,
            f"seg_pipeline_predict_seconds_sum {self.seconds:.6f}",
            f"seg_pipeline_predict_seconds_count {total}",
        ]


def _metadata_lines(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP seg_pipeline_{name} {meaning}", f"# TYPE seg_pipeline_{name} {kind}"]
