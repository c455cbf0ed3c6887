import hashlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from kedro.io import AbstractDataset, DatasetError

from seg_pipeline.datasets.checkpoint import CheckpointDataset

LOG = "seg_pipeline.datasets.checkpoint"


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "06_models" / "last.pt"


def state(epoch: int) -> dict:
    """Recognisable as a whole: every value of a torn mixture of two epochs would not agree."""
    return {"epoch": epoch, "model": OrderedDict(weight=torch.full((300, 100), float(epoch)))}


def saved(file: Path, *epochs: int) -> CheckpointDataset:
    dataset = CheckpointDataset(filepath=str(file))
    for epoch in epochs:
        dataset.save(state(epoch))
    return dataset


def epoch_of(loaded: dict) -> int:
    assert (loaded["model"]["weight"] == loaded["epoch"]).all()
    return loaded["epoch"]


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def names(file: Path) -> list[str]:
    return sorted(one.name for one in file.parent.iterdir())


def test_what_is_saved_is_loaded(file):
    given = {
        "history": [{"epoch": 0, "train_loss": 0.75, "val_dice": None}],
        "model": OrderedDict(weight=torch.tensor([[1.0, -2.0], [3.0, 4.0]], dtype=torch.bfloat16)),
        "size": (32, 64),
        "classes": {"liver", "spleen"},
        "random": b"\x00\xff",
        3: torch.nn.Parameter(torch.ones(2)),
    }
    dataset = CheckpointDataset(filepath=str(file))
    dataset.save(given)
    loaded = dataset.load()
    assert torch.equal(loaded["model"].pop("weight"), given["model"].pop("weight"))
    assert torch.equal(loaded.pop(3), given.pop(3))
    assert loaded == given


def test_a_checkpoint_with_the_older_key_is_read(file):
    CheckpointDataset(filepath=str(file)).save({"members": [{"row": {"epoch": 3}}], "folds": None})
    assert saved(file).load() == {"models": [{"row": {"epoch": 3}}], "folds": None}


def test_the_save_before_is_kept_and_both_have_a_digest(file):
    saved(file, 1, 2, 3)
    assert names(file) == ["last.pt", "last.pt.previous", "last.pt.previous.sha256", "last.pt.sha256"]
    for one, epoch in ((file, 3), (file.with_name("last.pt.previous"), 2)):
        assert torch.load(one, weights_only=True)["epoch"] == epoch
        digest = hashlib.sha256(one.read_bytes()).hexdigest()
        assert Path(f"{one}.sha256").read_text() == f"{digest}  {one.name}\n"  # as sha256sum writes it


@pytest.mark.parametrize("missing_ok", [True, False])
def test_a_missing_checkpoint(file, missing_ok):
    entry = {
        "type": "seg_pipeline.datasets.checkpoint.CheckpointDataset",
        "filepath": str(file),
        "missing_ok": missing_ok,
        "metadata": {"kedro-viz": {"layer": "models"}},
    }
    dataset = AbstractDataset.from_config("resume_from", entry)
    assert not dataset.exists()
    if missing_ok:
        assert dataset.load() is None
    else:
        with pytest.raises(DatasetError, match=f"{file}: no checkpoint; run `kedro run --pipeline training` first"):
            dataset.load()
    saved(file, 4)
    assert dataset.exists()
    assert epoch_of(dataset.load()) == 4


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.fault(
    scenario="damaged checkpoint",
    command="kedro run --pipeline training",
    outcome="the previous save is used, with a warning",
)
@pytest.mark.parametrize("damage", [flip_a_bit, truncate])
def test_the_previous_save_replaces_a_damaged_checkpoint(file, damage, caplog):
    dataset = saved(file, 1, 2)
    assert epoch_of(dataset.load()) == 2
    assert caplog.messages == []
    damage(file)
    assert epoch_of(dataset.load()) == 1
    assert caplog.messages == [
        f"{file} is damaged or incomplete (its sha256 differs from the recorded one); "
        f"using {file}.previous, the previous save"
    ]


def test_a_damaged_checkpoint_never_overwrites_an_intact_one(file, caplog):
    dataset = saved(file, 1, 2)
    flip_a_bit(file)
    dataset.save(state(3))
    assert epoch_of(torch.load(f"{file}.previous", weights_only=True)) == 1
    assert epoch_of(dataset.load()) == 3
    flip_a_bit(file)
    assert epoch_of(dataset.load()) == 1


def test_two_damaged_checkpoints_are_both_reported(file):
    dataset = saved(file, 1, 2)
    flip_a_bit(file)
    Path(f"{file}.previous").unlink()
    text = (
        f"no checkpoint can be read: {file} is damaged or incomplete (its sha256 differs from the recorded one); "
        f"{file}.previous is missing. Copy an intact one there together with its .sha256 file, or delete "
        "these files and train again"
    )
    with pytest.raises(DatasetError, match=re.escape(text)):
        dataset.load()
    dataset = CheckpointDataset(filepath=str(file), missing_ok=True)  # may be missing, not damaged
    with pytest.raises(DatasetError, match="no checkpoint can be read"):
        dataset.load()


def test_a_file_brought_from_elsewhere_loads_with_a_warning(file, caplog):
    file.parent.mkdir()
    torch.save(state(7), file)
    assert epoch_of(saved(file).load()) == 7
    assert caplog.messages == [f"{file} has no .sha256 file, so damage cannot be detected"]
    saved(file, 8)
    assert epoch_of(torch.load(f"{file}.previous", weights_only=True)) == 7


def test_a_damaged_file_without_digest_is_an_error(file):
    file.parent.mkdir()
    torch.save(state(7), file)
    truncate(file)
    with pytest.raises(DatasetError, match=f"{file}: damaged, or not a checkpoint"):
        saved(file).load()


class Malicious:
    def __reduce__(self):
        return (os.mkdir, (os.environ["TARGET"],))


@pytest.mark.fault(
    scenario="checkpoint with code", command="kedro run --pipeline training", outcome="refused; the code does not run"
)
def test_code_in_a_checkpoint_is_refused_and_does_not_run(file, tmp_path, monkeypatch):
    monkeypatch.setenv("TARGET", str(tmp_path / "pwned"))
    file.parent.mkdir()
    torch.save({"model": Malicious()}, file)
    Path(f"{file}.sha256").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  last.pt\n")
    with pytest.raises(DatasetError, match=f"{file}: refused, because it holds more than tensors and plain values"):
        saved(file).load()
    assert not (tmp_path / "pwned").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "pwned").exists()  # so the attack was a real one


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"history": [{"dice": np.float64(0.5)}]}, "numpy.float64 at history.0.dice"),
        ({"a": (1, {2: np.zeros(2)})}, "numpy.ndarray at a.1.2"),
        ({"a": {np.int64(3): 1}}, "numpy.int64 at a key of a"),
        ({"path": Path()}, "pathlib.PosixPath at path"),
        ([Malicious], "builtins.type at 0"),
    ],
)
def test_what_would_not_load_again_is_not_saved(file, data, found):
    with pytest.raises(
        DatasetError, match=f"{file}: a checkpoint may only hold tensors and plain values, found {found}"
    ):
        saved(file).save(data)
    assert not file.parent.exists()


@pytest.mark.fault(
    scenario="disk full while a checkpoint is saved",
    command="kedro run --pipeline training",
    outcome="one sentence; the checkpoint of before can be loaded",
    review="serving 8",
)
@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_leaves_what_was_there(file, monkeypatch, room):
    """Room for none, one or two of the three files that a save writes."""
    dataset = saved(file, 1, 2)
    written = []

    def sync(descriptor: int) -> None:
        if os.path.isfile(f"/proc/self/fd/{descriptor}"):  # noqa: PTH113  folders are synced too
            written.append(descriptor)
            if len(written) > room:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(DatasetError, match="No space left on device") as error:
        dataset.save(state(3))
    if room == 0:
        assert "MiB free); free disk space or set another `data_root`" in str(error.value)
    monkeypatch.undo()
    assert not [name for name in names(file) if ".part" in name]
    assert epoch_of(dataset.load()) == 2
    dataset.save(state(4))
    assert epoch_of(dataset.load()) == 4
    assert epoch_of(torch.load(f"{file}.previous", weights_only=True)) == 2


def test_a_disk_full_half_way_through_the_tensors(file, monkeypatch):
    """torch says RuntimeError then."""
    dataset = saved(file, 1)

    def half(data: dict, stream) -> None:
        stream.write(b"half of it")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", half)
    text = rf"{file}: the checkpoint could not be written \(\d+ MiB free\); free disk space"
    with pytest.raises(DatasetError, match=text):
        dataset.save(state(2))
    assert names(file) == ["last.pt", "last.pt.sha256"]
    assert epoch_of(dataset.load()) == 1


KILLER = """
import os, random, signal, sys, time
from pathlib import Path

import torch

sys.path.insert(0, sys.argv[1])
from test_checkpoint import epoch_of, saved, state

file = Path(sys.argv[2])


def in_child(action):
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return child


def die_at(step):
    \"\"\"Saves with the plug pulled right before or after the given one of the calls that change the disk.\"\"\"
    calls = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal calls
            for moment in (lambda: None, lambda: real(*args, **kwargs)):
                result = moment()
                calls += 1
                if calls == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

    os.fsync, Path.replace = counted(os.fsync), counted(Path.replace)
    saved(file, epoch + 1)


epoch = step = status = 0
saved(file, epoch)
while step == 0 or status:  # the plug pulled at each step in turn
    step += 1
    _, status = os.waitpid(in_child(lambda: die_at(step)), 0)
    assert status in (0, signal.SIGKILL)
    assert epoch_of(saved(file).load()) in (epoch, epoch + 1), step
    epoch += 2
    assert epoch_of(saved(file, epoch).load()) == epoch, step  # the next save copes with what was left
assert step == 23, step  # 7 syncs and 4 renames, before and after each

chance = random.Random(3)
for _ in range(10):  # and at any time, again and again
    child = in_child(lambda: saved(file, *range(epoch, epoch + 100_000)))
    time.sleep(chance.uniform(0.05, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = epoch_of(saved(file).load())
    assert found >= epoch, (found, epoch)
    epoch = found
saved(file, epoch)
print("survived")
"""


@pytest.mark.fault(
    scenario="killed while a checkpoint is saved",
    command="kedro run --pipeline training",
    outcome="a readable checkpoint exists at every moment",
)
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
def test_a_save_may_be_killed_at_any_moment(file):
    command = [sys.executable, "-c", KILLER, str(Path(__file__).parent), str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout == "survived\n", ended.stderr[-3000:]
    assert not [name for name in names(file) if ".part" in name]


def test_the_catalog_stays_light():
    code = "import sys, seg_pipeline.datasets.checkpoint; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


@pytest.fixture(autouse=True)
def _warnings_only(caplog):
    caplog.set_level(logging.WARNING, logger=LOG)


def test_a_preview_shows_plain_values_and_counts_the_weights(tmp_path):
    dataset = CheckpointDataset(filepath=str(tmp_path / "last.pt"), missing_ok=True)
    assert json.loads(dataset.preview()) == {}
    weights = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
    dataset.save({"score": 0.5, "size": (64, 96), "model": weights, "step": torch.tensor(3)})
    shown = json.loads(dataset.preview())
    assert shown == {"score": 0.5, "size": [64, 96], "model": "2 tensors, 10 numbers", "step": "tensor []"}


def test_the_next_save_sweeps_what_a_killed_one_left(file):
    saved(file, 1, 2)
    expected = names(file)
    for name in (".last.part0.pt", ".last.pt.part0.sha256"):
        (file.parent / name).write_text("half")
    (file.parent / ".other.pt.sha256").write_text("not ours")
    saved(file, 3)
    assert names(file) == sorted([*expected, ".other.pt.sha256"])


@pytest.mark.parametrize("pickle", [b"\x80\x02h\x00.", b"\x80\x02N", b"", b"\x80\x02X\x01\x00\x00\x00\xff."])
def test_a_damaged_pickle_in_a_sound_archive_is_reported(file, pickle):
    """torch raises KeyError, IndexError, UnicodeDecodeError and others about them."""
    whole = io.BytesIO()
    torch.save(state(1), whole)
    file.parent.mkdir()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(file, "w") as new:
        for one in old.infolist():
            new.writestr(one.filename, pickle if one.filename.endswith("data.pkl") else old.read(one))
    with pytest.raises(DatasetError, match=r"last.pt: (damaged, or not a checkpoint|refused)"):
        CheckpointDataset(filepath=str(file)).load()
