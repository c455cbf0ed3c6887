"""Tags for what determines a run besides its parameters: code, packages, data and hardware.

This module imports no heavy package that the run has not already imported.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MAIN_PACKAGES = ("numpy", "segmentation-models-pytorch", "timm", "torch")
"""Packages with a tag of their own; more would hide the other tags on mlflow's page."""
PACKAGE = __name__.partition(".")[0]


def code_tags(project: Path) -> dict[str, str]:
    """The project's commit and whether tracked files differ from it; empty outside a git checkout."""
    commit = _git(project, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return {}
    changed = _git(project, "status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": commit, "git.commit": commit, "git.dirty": str(bool(changed)).lower()}


def _git(project: Path, *command: str) -> str:
    try:
        result = subprocess.run(["git", "-C", str(project), *command], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip()


def packages() -> str:
    """This package and its declared dependencies at the installed versions, as a requirements file."""
    return "".join(f"{pin}\n" for pin in pinned_requirements([PACKAGE, *_declared_dependencies()]))


def package_tags() -> dict[str, str]:
    """Versions of Python and of the packages that determine a result most."""
    versions = dict(pin.split("==") for pin in pinned_requirements([PACKAGE, *MAIN_PACKAGES]))
    packages = {f"package.{name}": version for name, version in versions.items()}
    return {"python": platform.python_version(), "platform": platform.platform(), **packages}


def pinned_requirements(names: list[str]) -> list[str]:
    """Requirements such as ``numpy==2.4.1`` at the installed versions, without packages that are not installed."""
    pins = []
    for name in names:
        try:
            pins.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return pins


def _declared_dependencies() -> list[str]:
    try:
        requirements = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return ["kedro", "mlflow", "numpy", "pandas", "torch"]
    return [re.split(r"[^\w.-]", one)[0] for one in requirements if "extra ==" not in one]


def device_tags(device: str) -> dict[str, str]:
    """Device that training picks for ``device``, its name and the thread counts; empty if torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    import joblib

    from seg_pipeline.segmentation.training.devices import pick_device

    picked = pick_device(device)
    name = torch.cuda.get_device_name(picked) if picked.type == "cuda" else _processor_name()
    threads = {"threads": str(torch.get_num_threads()), "processors": str(joblib.cpu_count())}
    return {"device": str(picked), "device.name": name, **threads}


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def data_tags(name: str, table: pd.DataFrame) -> dict[str, str]:
    """Hashes of a manifest's content and of its splits, and the number of images per split."""
    from seg_pipeline.segmentation.manifest.table import data_hash

    splits = table[[column for column in ("image_id", "split", "fold") if column in table]].sort_values("image_id")
    sizes = {f"{name}.num_{split}": str(number) for split, number in table["split"].value_counts().items()}
    text = splits.to_csv(index=False).encode()
    return {f"{name}.hash": data_hash(table), f"{name}.split_hash": hashlib.sha256(text).hexdigest(), **sizes}
