"""Connect to the cluster that the settings name, once per run."""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import joblib

from seg_pipeline.segmentation.parallel.executors import DaskTasks, InProcess, Processes, RayTasks, TaskExecutor
from seg_pipeline.segmentation.settings.cluster import ClusterSettings

log = logging.getLogger(__name__)

PACKAGE = "seg_pipeline"
MODULES = {"ray": "ray", "dask": "distributed"}
SECONDS = 10.0
"""How long a cluster may take to answer."""

_settings = ClusterSettings()
_client: Any = None
"""As joblib's backend, the engine belongs to the process: data sets that cut volumes know no parameters."""


def connect(settings: ClusterSettings) -> None:
    """Let ``make_executor`` use the engine of ``settings``, from now on and until ``disconnect``.

    Raises:
        ValueError: its package is missing, it cannot be reached, or runs another version of this package.
    """
    global _settings, _client  # noqa: PLW0603
    disconnect()
    if settings.engine != "local":
        if find_spec(MODULES[settings.engine]) is None:
            raise ValueError(
                f"cluster.engine: {settings.engine} needs a package that is not installed; "
                f"`pip install 'seg_pipeline[{settings.engine}]'`"
            )
        _client = (_connect_ray if settings.engine == "ray" else _connect_dask)(settings)
    _settings = settings


def disconnect() -> None:
    """Use processes of this machine again. A cluster that ``connect`` started ends."""
    global _settings, _client
    if _settings.engine == "ray":
        _client.shutdown()
    elif _settings.engine == "dask":
        _client.close()
    _settings, _client = ClusterSettings(), None


def engine() -> str:
    """The engine in use."""
    return _settings.engine


def make_executor(num_workers: int, *, threads: int = 1, gpus: int = 0) -> TaskExecutor:
    """The executor for one map.

    Args:
        num_workers: of this machine, unless the settings say otherwise; -1: one per core.
        threads: cores per task, and ``gpus``: on Ray.
    """
    if _settings.engine == "ray":
        return RayTasks(_settings.workers, threads=threads, gpus=gpus if _client.cluster_resources().get("GPU") else 0)
    if _settings.engine == "dask":
        return DaskTasks(_client, _settings.workers)
    number = joblib.effective_n_jobs(_settings.workers or num_workers)
    return Processes(number) if number > 1 else InProcess()


def meeting_place() -> str:
    """A free port of this machine, as other machines of the Ray cluster see it: HOST:PORT."""
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{_client.util.get_node_ip_address()}:{free.getsockname()[1]}"


@contextmanager
def on_other_machines(machines: int, function: Callable, *arguments: Any, gpus: int, restarts: int) -> Iterator[None]:
    """Run a function on so many other machines of the Ray cluster, once on each, during a block.

    Args:
        gpus: of each machine, that the function needs; ``restarts``: how often a machine that fails is replaced.

    Raises:
        ValueError: the cluster has not so many machines free.
    """
    here = _client.get_runtime_context().get_node_id()
    elsewhere: list[dict[str, str]] = [{"ray.io/node-id": f"!{here}"}] * machines
    size = {"CPU": 1} | ({"GPU": gpus} if gpus else {})
    group = _client.util.placement_group([size] * machines, "STRICT_SPREAD", bundle_label_selector=elsewhere)
    tasks = []
    try:
        if not group.wait(6 * SECONDS):
            alive = sum(node["Alive"] for node in _client.nodes())
            raise ValueError(
                f"training.compute.nodes: {machines + 1}, but of the {alive} machines of the cluster not {machines} "
                f"beside this one have {' and '.join(f'{number} {name}' for name, number in size.items())} free"
            )
        place: Callable = _client.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        run = _client.remote(num_cpus=1, num_gpus=gpus, max_retries=restarts, scheduling_strategy=place(group))(
            function
        )
        tasks += [run.remote(*arguments) for _ in range(machines)]
        yield
    finally:
        for task in tasks:
            _client.cancel(task, force=True)
        _client.util.remove_placement_group(group)


def _connect_ray(settings: ClusterSettings) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # 30 are too few for a busy machine
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: on a busy machine workers would starve
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; else Ray warns
    import ray

    given = settings.address or os.environ.get("RAY_ADDRESS")
    if given not in (None, "auto", "local"):
        _knock(given)
    own = {"num_cpus": settings.workers or joblib.cpu_count(), "include_dashboard": False}
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, **({} if given else own)}
    try:
        ray.init(given, **options)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        place: Callable = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        asked = [
            ray.remote(num_cpus=0, scheduling_strategy=place(node, soft=False))(version).remote(PACKAGE)
            for node in nodes
        ]
        found = ray.get(asked, timeout=6 * SECONDS)
    except ray.exceptions.RayTaskError as error:
        raise ValueError(_without_package(error.cause)) from None
    except Exception as error:  # among Ray's are bare ones
        raise ValueError(_unreachable(given, error)) from error
    _check_versions(found)
    return ray


def _connect_dask(settings: ClusterSettings) -> Any:
    import distributed

    given = settings.address or os.environ.get("DASK_SCHEDULER_ADDRESS")
    size = {"n_workers": settings.workers or joblib.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    try:
        client = distributed.Client(given, timeout=SECONDS, **({} if given else size))
        found = client.run(version, PACKAGE)
    except ImportError as error:
        raise ValueError(_without_package(error)) from None
    except (OSError, ValueError) as error:
        raise ValueError(_unreachable(given, error)) from error
    if not found:
        raise ValueError(_unreachable(given, "it has no workers"))
    _check_versions(found.values())
    return client


def _knock(address: str) -> None:
    """Ray itself tries an address for a minute, and then ends the process."""
    place = urlsplit(address if "//" in address else f"//{address}")
    try:
        socket.create_connection((place.hostname, place.port or 0), timeout=SECONDS).close()
    except (OSError, ValueError) as error:
        raise ValueError(_unreachable(address, error)) from None


def _unreachable(address: str | None, error: object) -> str:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"cluster.address: no cluster answers at {address or 'this machine'} ({said}); start it, correct "
        "`cluster.address`, or use this machine with `--params cluster.engine=local`"
    )


def _without_package(error: object) -> str:
    return f"{PACKAGE} cannot be imported on the cluster ({error}); install version {version(PACKAGE)} on every machine"


def _check_versions(found: Iterable[str]) -> None:
    ours = version(PACKAGE)
    if others := sorted(set(found) - {ours}):
        raise ValueError(
            f"the cluster runs {PACKAGE} {', '.join(others)} and this machine {ours}; install the same version on all "
            "machines"
        )
