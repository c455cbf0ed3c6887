"""`python benchmarks`: runs every benchmark and writes docs/benchmarks.md; exits with 1 when one is not ok.

Names of benchmarks choose some (`python benchmarks rle cache`); the page is then left as it is.
"""

from __future__ import annotations

import ast
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
NOT_ONE = {"__main__.py", "chain.py", "side_by_side.py"}

HEAD = """# Benchmarks

Written by `make bench`; edits are lost. Each row sets *a* beside *b*, measured in turns in one process: the ratio
of their medians has to stay at or below the limit. Seconds depend on the machine, ratios hardly do.

Machine: {machine}.

| benchmark | ratio | limit | | median a | median b | runs |
|---|---|---|---|---|---|---|
"""


def main(chosen: list[str]) -> int:
    scripts = [one for one in sorted(FOLDER.glob("*.py")) if one.name not in NOT_ONE]
    if unknown := set(chosen) - {script.stem for script in scripts}:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(one.stem for one in scripts)}")
    measured = {one: run(one) for one in scripts if not chosen or one.stem in chosen}
    if not chosen:
        PAGE.write_text(page(measured), encoding="utf-8")
    return max(code for _, code in measured.values())


def run(script: Path) -> tuple[list[dict], int]:
    """The lines that a benchmark printed, and its exit code; one that fails says so itself."""
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and all(row.get("ok", True) for row in rows):
        rows.append({"name": script.stem, "failed": f"ended with {done.returncode} before it was done"})
    return rows, done.returncode


def page(measured: dict[Path, tuple[list[dict], int]]) -> str:
    rows = [row for found, _ in measured.values() for row in found]
    lines = [line(row) for row in rows if "ratio" in row]
    left_out = [f"- `{row['name']}`: {row.get('skipped') or row['failed']}" for row in rows if "ratio" not in row]
    what = [f"- `benchmarks/{script.name}`: {summary(script)}" for script in measured]
    notes = [f"- `{row['name']}`: {row['note']}" for row in rows if row.get("note")]
    parts = [HEAD.format(machine=machine()) + "\n".join(lines), "## What is measured\n\n" + "\n".join(what + notes)]
    if left_out:
        parts.append("## Not measured here\n\n" + "\n".join(left_out))
    return "\n\n".join(parts) + "\n"


def line(row: dict) -> str:
    unit = row["unit"]
    verdict = "ok" if row["ok"] else "**not ok**"
    medians = f"{row['median_a']:g} {unit} | {row['median_b']:g} {unit}"
    return f"| {row['name']} | {row['ratio']:g} | {row['limit']:g} | {verdict} | {medians} | {row['runs']} |"


def summary(script: Path) -> str:
    """First paragraph of a script's docstring, in one line."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def machine() -> str:
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB{gpu}; {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}; {datetime.date.today().isoformat()}"
    )


def processor() -> str:
    about = Path("/proc/cpuinfo")
    names = (
        [one.partition(":")[2].strip() for one in about.read_text().splitlines() if one.startswith("model name")]
        if about.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
