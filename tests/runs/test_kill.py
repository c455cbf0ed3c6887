"""SIGKILL at any moment: what is on disk resumes to the weights of an undisturbed training.

Run as a script, ``STEPS FOLDER``, this file is one life of a training.
"""

import hashlib
import json
import os
import random
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from seg_pipeline.datasets.checkpoint import CheckpointDataset
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.run import train

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")]

STEPS = 15
"""Three epochs of five; every one is saved."""
KILLS = 5
TO_THE_END = 0


def live(folder: Path, stop: int) -> None:
    """Goes on with the training in ``folder``, until ``stop`` steps are done or it ends."""
    config = TrainingConfig.from_dict(json.loads((folder / "training_config.json").read_text()))
    last, best = (CheckpointDataset(filepath=str(folder / f"{name}.pt"), missing_ok=True) for name in ("last", "best"))
    saved = last.load()
    _say("saved", saved["current"]["total_steps"] if saved else 0)
    compute = ComputeSettings(device="cpu", num_workers=0, cache="none", save_minutes=0)
    for moment in train(pd.read_parquet(folder / "manifest.parquet"), config, compute, saved=saved):
        step = moment.last["current"]["total_steps"]
        _say("saving", step)
        last.save(moment.last)
        best.save(moment.best)
        moment.history.to_parquet(folder / "history.parquet")
        _say("saved", step)
        if step == stop:
            return


def _say(what: str, step: int) -> None:
    sys.stdout.write(f"{what} {step}\n")
    sys.stdout.flush()


class Training:
    """Lives of trainings in another process; ``printed`` is all that the last of them has printed."""

    def __init__(self, warm: Any) -> None:
        self.warm, self.printed = warm, ""

    def live(self, folder: Path, *, stop: int = TO_THE_END) -> Iterator[tuple[str, int]]:
        """What the life says: (born, its process), (saving or saved, step), (died, exit code)."""
        command = self.warm.start(__file__, stop, folder, program="python", cwd=str(folder))
        process = os.pidfd_open(command.process)
        yield "born", command.process
        told, ended = 0, False
        while not ended:
            ended = bool(select.select([process], [], [], 0.002)[0])
            self.printed = command.output
            said = re.findall(r"^(saving|saved) (\d+)$", self.printed, re.M)
            yield from ((what, int(step)) for what, step in said[told:])
            told = len(said)
        os.close(process)
        yield "died", command.wait()

    def live_out(self, folder: Path, *, stop: int = TO_THE_END) -> None:
        assert list(self.live(folder, stop=stop))[-1] == ("died", 0), self.printed[-2000:]

    def live_until(self, folder: Path, moment: tuple[int, bool], delay: float) -> int:
        """Kills ``delay`` seconds after step and side of a save (False: before it); the exit code."""
        process, killed = 0, False
        for what, value in self.live(folder):
            if what == "born":
                process = value
            elif what == "died":
                return value
            elif not killed and (value, what == "saved") >= moment:
                time.sleep(delay)
                os.kill(process, signal.SIGKILL)
                killed = True
        raise AssertionError("unreachable")


@pytest.fixture(scope="module")
def training(warm) -> Training:
    return Training(warm)


@pytest.fixture
def folder(tmp_path, manifest, config) -> Path:
    return prepared(tmp_path, manifest, config)


def prepared(folder: Path, manifest: pd.DataFrame, config: TrainingConfig) -> Path:
    """A folder with all that a training starts from; what has a state of its own is switched on."""
    busy = config.changed({"sampling.batch_size": 2, "sampling.mix": "cutmix", "fit.ema": 0.9})
    (folder / "training_config.json").write_text(json.dumps(busy.to_dict()))
    manifest.to_parquet(folder / "manifest.parquet")
    return folder


@pytest.fixture(scope="module")
def whole(training, tmp_path_factory, manifest, config) -> tuple[Path, dict[bool, float]]:
    """An undisturbed training: its folder, and the mean seconds of a step (True) and of a save (False)."""
    folder = prepared(tmp_path_factory.mktemp("whole"), manifest, config)
    times = {(step, what == "saved"): time.monotonic() for what, step in training.live(folder) if what != "died"}
    steps = [times[step, False] - times[step - 1, True] for step in range(2, STEPS + 1)]
    saves = [times[step, True] - times[step, False] for step in range(2, STEPS + 1)]
    return folder, {True: sum(steps) / len(steps), False: sum(saves) / len(saves)}


def outcome(folder: Path) -> tuple[str, str, pd.DataFrame]:
    """Sha256 over all weights of the last and the best model, and the history without times."""
    last, best = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("last", "best"))
    history = pd.read_parquet(folder / "history.parquet")
    assert last["current"]["finished"]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert pd.DataFrame(last["current"]["history"])["epoch"].tolist() == [1, 2, 3]
    weights = {f"{part}.{name}": value for part in ("model", "mean") for name, value in last["current"][part].items()}
    return digest(weights), digest(best["models"][0]["model"]), history.drop(columns="seconds")


def digest(weights: dict[str, torch.Tensor]) -> str:
    whole = hashlib.sha256()
    for name, value in sorted(weights.items()):
        whole.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode() + value.numpy().tobytes())
    return whole.hexdigest()


def assert_same(one: Path, other: Path) -> None:
    *hashes, history = outcome(one)
    *other_hashes, other_history = outcome(other)
    assert hashes == other_hashes
    pd.testing.assert_frame_equal(history, other_history, check_exact=True)
    assert {file.name for file in one.iterdir()} == {file.name for file in other.iterdir()}


@pytest.mark.fault(
    scenario="killed in training", command="kedro run --pipeline training", outcome="resumes to equal weights"
)
@pytest.mark.slow
def test_a_training_killed_five_times_ends_with_the_weights_of_one_that_was_not(training, whole, folder):
    undisturbed, seconds = whole
    rng = random.Random(4)
    moments = [(step, saved) for step in range(STEPS // 2) for saved in (False, True)]  # far from the end
    for moment in sorted(rng.sample(moments, KILLS)):  # each further on than the one before
        delay = rng.random() * seconds[moment[1]]
        assert training.live_until(folder, moment, delay) == -signal.SIGKILL
    training.live_out(folder)
    assert_same(folder, undisturbed)


@pytest.mark.fault(
    scenario="checkpoint cut short",
    command="kedro run --pipeline training",
    outcome="resumes from the previous save to equal weights",
)
@pytest.mark.slow
def test_a_checkpoint_cut_short_falls_back_to_the_one_before_and_ends_with_equal_weights(training, whole, folder):
    undisturbed, _ = whole
    training.live_out(folder, stop=7)
    newest = folder / "last.pt"
    os.truncate(newest, newest.stat().st_size // 2)
    lives = list(training.live(folder))
    assert lives[1] == ("saved", 6)
    assert lives[-1] == ("died", 0)
    assert f"{newest} is damaged or incomplete" in training.printed
    assert_same(folder, undisturbed)


if __name__ == "__main__":
    live(Path(sys.argv[2]), int(sys.argv[1]))
