"""Where tasks on many images run."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Where images are measured, cut and written, and the trials of a search with `pool.kind: processes` run."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    engine: Literal["local", "ray", "dask"] = "local"
    """Processes of this machine, a Ray cluster (extra `[ray]`) or a Dask cluster (extra `[dask]`). Results are equal.
    All machines need this version of the package, and the data at the same paths."""
    address: str | None = None
    """Address of the cluster, such as `10.0.0.1:6379` (Ray) or `tcp://10.0.0.1:8786` (Dask). null: from RAY_ADDRESS or
    DASK_SCHEDULER_ADDRESS, else a cluster on this machine that ends with the run."""
    workers: Annotated[int, Ge(1)] | None = None
    """Tasks that run at the same time. null: `num_workers` of each step on this machine, all cores of a cluster."""
