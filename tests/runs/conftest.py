"""Commands in forks of one process, in a clone with a data set that takes seconds; and an S3 server with faults."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

GLOBALS = """
data_root: data/tiny
raw_root: data/01_raw/phantom_tiny
phantom: { seed: 17, num_cases: 6, days_per_case: 1, frames_per_series: [3, 3], size: 64, other_size: [64, 72],
           dirty: false }
"""
PARAMETERS = """
data_processing:
  num_workers: 1
  split: { shares: { train: 0.5, val: 0.2, test: 0.3 }, folds: 4 }
training:
  model: { encoder: tu-test_efficientnet, encoder_weights: null, decoder_channels: [16, 8, 8, 8] }
  input: { size: [64, 64] }
  fit: { epochs: 2 }
  compute: { device: cpu, num_workers: 2 }
hparam_search:
  sanity_checks: { stop: false, overfit_steps: 3, overfit_dice: 0.1 }
  grid: { learning_rates: [3.0e-3, 1.0e-2], weight_decays: [1.0e-2], epochs: 1, extend: false }
export: { formats: [torchscript] }
inference: { images: data/01_raw/phantom_tiny/train/case1, device: cpu }
tracking: { log_model: false }
"""


class Project:
    """A clone with the environment ``tiny``."""

    def __init__(self, folder: Path, warm: Any) -> None:
        self.folder, self.data, self._warm = folder, folder / "data" / "tiny", warm

    def start(self, pipeline: str, *, params: str = "", **options: Any) -> Any:
        given = ["--params", params] if params else []
        return self._warm.start(
            "run", "--env", "tiny", "--pipelines", pipeline, *given, **{"cwd": str(self.folder), **options}
        )

    def run(self, pipeline: str, **options: Any) -> tuple[int, str]:
        """Exit status and output."""
        command = self.start(pipeline, **options)
        return command.wait(), command.output


@pytest.fixture(scope="module")
def project(warm, in_clone, tmp_path_factory) -> Project:
    folder = in_clone.copy(tmp_path_factory.mktemp("project") / "clone")
    environment = folder / "conf" / "tiny"
    environment.mkdir()
    (environment / "globals.yml").write_text(GLOBALS)
    (environment / "parameters.yml").write_text(PARAMETERS)
    return Project(folder, warm)


class Store:
    """An S3 server on this machine (moto) that can refuse, stall and lose objects.

    Attributes:
        faults: end of an object's key -> what happens to the next requests for it, in order: a number is an HTTP
            status, "stall" an answer after the client's patience, "short" half of the object.
        key: the only access key that is let in.
        variables: environment of its clients.
    """

    def __init__(self) -> None:
        server = pytest.importorskip("moto.server", reason="needs moto[server]")
        pytest.importorskip("s3fs", reason="needs the extra [s3]")
        from werkzeug.serving import make_server

        self._app = server.DomainDispatcherApplication(server.create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.faults: dict[str, list[int | str]] = {}
        self.asked: Counter[str] = Counter()
        self.key, self.patience = "AKIATEST", 1.0
        self.variables = {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": "do-not-log",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
        }
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict, start: Callable) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if f"Credential={self.key}/" not in environ.get("HTTP_AUTHORIZATION", ""):
            return self._refuse(environ, start, "403 Forbidden", "InvalidAccessKeyId")
        fault = None
        if environ["REQUEST_METHOD"] == "GET":
            self.asked[path.rpartition("/")[2]] += 1
            fault = next((todo.pop(0) for end, todo in self.faults.items() if path.endswith(end) and todo), None)
        if isinstance(fault, int):
            status, code = (f"{fault} Not Found", "NoSuchKey") if fault == 404 else (f"{fault} Slow Down", "SlowDown")
            return self._refuse(environ, start, status, code)
        if fault == "stall":
            time.sleep(2 * self.patience)
        body = b"".join(self._app(environ, start))
        return [body[: len(body) // 2] if fault == "short" else body]

    def _refuse(self, environ: dict, start: Callable, status: str, code: str) -> list[bytes]:
        start(status, [("Content-Type", "application/xml")])
        return (
            []
            if environ["REQUEST_METHOD"] == "HEAD"
            else [f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()]
        )


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """With an empty bucket raw-data; in this process, clients give up after a second and try twice."""
    made = Store()
    import fsspec.config
    import s3fs

    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.variables.items():
            patch.setenv(name, value)
        quick = {"connect_timeout": made.patience, "read_timeout": made.patience, "retries": {"max_attempts": 1}}
        patch.setitem(fsspec.config.conf, "s3", {"config_kwargs": quick})
        patch.setattr(s3fs.S3FileSystem, "retries", 2)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("raw-data")
        yield made
        made.faults.clear()
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().rm("raw-data", recursive=True)  # moto's servers in one process share their buckets
        s3fs.S3FileSystem.clear_instance_cache()
    made.close()
