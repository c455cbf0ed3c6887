"""Commands in forks of one process, in a clone with a data set that takes seconds."""

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
            "run", "--env", "tiny", "--pipeline", pipeline, *given, **{"cwd": str(self.folder), **options}
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
