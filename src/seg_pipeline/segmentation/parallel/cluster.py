"""Connect to the cluster in the settings, once per run."""

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
"""Time limit for a cluster to respond."""

_settings = ClusterSettings()
_client: Any = None
"""Like joblib's backend, the engine is global to the process, because data sets that cut volumes get no parameters."""


def connect(settings: ClusterSettings) -> None:
    """Make ``make_executor`` use the engine of ``settings`` until ``disconnect``.

    Raises:
        ValueError: its package is missing, or the cluster cannot be reached or runs another version of this package.
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
    """Use processes on this machine again. A cluster that ``connect`` started is shut down."""
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
    """Create the executor for one map.

    Args:
        num_workers: workers on this machine, unless the settings override it; -1: one per core.
        threads: cores per task on Ray.
        gpus: GPUs per task on Ray.
    """
    if _settings.engine == "ray":
        return RayTasks(_settings.workers, threads=threads, gpus=gpus if _client.cluster_resources().get("GPU") else 0)
    if _settings.engine == "dask":
        return DaskTasks(_client, _settings.workers)
    number = joblib.effective_n_jobs(_settings.workers or num_workers)
    return Processes(number) if number > 1 else InProcess()


def rendezvous_endpoint() -> str:
    """HOST:PORT with a free port of this machine, for other machines of the Ray cluster."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        return f"{_client.util.get_node_ip_address()}:{sock.getsockname()[1]}"


@contextmanager
def on_other_machines(machines: int, function: Callable, *arguments: Any, gpus: int, restarts: int) -> Iterator[None]:
    """Run a function on this number of other machines of the Ray cluster, once on each, during a block.

    Args:
        gpus: GPUs that the function needs on each machine.
        restarts: how often a failed machine is replaced.

    Raises:
        ValueError: the cluster does not have enough free machines.
    """
    this_node = _client.get_runtime_context().get_node_id()
    other_nodes: list[dict[str, str]] = [{"ray.io/node-id": f"!{this_node}"}] * machines
    size = {"CPU": 1} | ({"GPU": gpus} if gpus else {})
    group = _client.util.placement_group([size] * machines, "STRICT_SPREAD", bundle_label_selector=other_nodes)
    tasks = []
    try:
        if not group.wait(6 * SECONDS):
            alive = sum(node["Alive"] for node in _client.nodes())
            raise ValueError(
                f"training.compute.nodes: {machines + 1}, but the cluster ({alive} machines) does not have {machines} "
                f"besides this one with {' and '.join(f'{number} {name}' for name, number in size.items())} free"
            )
        strategy: Callable = _client.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        run = _client.remote(num_cpus=1, num_gpus=gpus, max_retries=restarts, scheduling_strategy=strategy(group))(
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
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # the default of 30 is too short on a busy machine
    os.environ.setdefault("RAY_worker_niceness", "0")  # with the default of 15, workers starve on a busy machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the future default; otherwise Ray warns
    import ray

    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address not in (None, "auto", "local"):
        _check_reachable(address)
    local_options = {"num_cpus": settings.workers or joblib.cpu_count(), "include_dashboard": False}
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        **({} if address else local_options),
    }
    try:
        ray.init(address, **options)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        strategy: Callable = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        version_tasks = [
            ray.remote(num_cpus=0, scheduling_strategy=strategy(node, soft=False))(version).remote(PACKAGE)
            for node in nodes
        ]
        versions = ray.get(version_tasks, timeout=6 * SECONDS)
    except ray.exceptions.RayTaskError as error:
        raise ValueError(_without_package(error.cause)) from None
    except Exception as error:  # Ray raises some errors as plain Exception
        raise ValueError(_unreachable(address, error)) from error
    _check_versions(versions)
    return ray


def _connect_dask(settings: ClusterSettings) -> Any:
    import distributed

    address = settings.address or os.environ.get("DASK_SCHEDULER_ADDRESS")
    local_options = {
        "n_workers": settings.workers or joblib.cpu_count(),
        "threads_per_worker": 1,
        "dashboard_address": None,
    }
    try:
        client = distributed.Client(address, timeout=SECONDS, **({} if address else local_options))
        versions = client.run(version, PACKAGE)
    except ImportError as error:
        raise ValueError(_without_package(error)) from None
    except (OSError, ValueError) as error:
        raise ValueError(_unreachable(address, error)) from error
    if not versions:
        raise ValueError(_unreachable(address, "it has no workers"))
    _check_versions(versions.values())
    return client


def _check_reachable(address: str) -> None:
    """Check that the address accepts connections; Ray itself tries for a minute and then ends the process."""
    url = urlsplit(address if "//" in address else f"//{address}")
    try:
        socket.create_connection((url.hostname, url.port or 0), timeout=SECONDS).close()
    except (OSError, ValueError) as error:
        raise ValueError(_unreachable(address, error)) from None


def _unreachable(address: str | None, error: object) -> str:
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"cluster.address: no cluster responds at {address or 'this machine'} ({message}); start it, correct "
        "`cluster.address`, or use this machine with `--params cluster.engine=local`"
    )


def _without_package(error: object) -> str:
    return f"{PACKAGE} cannot be imported on the cluster ({error}); install version {version(PACKAGE)} on every machine"


def _check_versions(versions: Iterable[str]) -> None:
    own_version = version(PACKAGE)
    if others := sorted(set(versions) - {own_version}):
        raise ValueError(
            f"the cluster runs {PACKAGE} {', '.join(others)} and this machine {own_version}; install the same version "
            "on all machines"
        )
