"""Run every benchmark and write docs/reference/benchmarks.md; exit with 1 if one is over its limit.

`python benchmarks rle tables` runs only those and renews their sections of the page.
"""

import ast
import datetime
import json
import math
import platform
import re
import subprocess
import sys
from pathlib import Path

import joblib
import psutil

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "docs" / "reference" / "benchmarks.md"
NOT_ONE = {"__main__.py", "chain.py", "label_next.py", "recipes.py", "side_by_side.py", "soak.py"}

HEAD = """# Benchmarks

Written by `make bench`; `python benchmarks NAME` measures one section again. Each row compares *a* with *b*, measured
in turns in one process. Below 1, a is faster or smaller than b. Seconds depend on the machine; the ratio hardly does,
so it has a *limit*, and `make bench` fails above it. An empty limit means that the row is only reported.
"""
TABLE = """| benchmark | a | b | a / b | limit | runs |
|---|---|---|---|---|---|
"""


def main(chosen: list[str]) -> int:
    scripts = {one.stem: one for one in sorted(FOLDER.glob("*.py")) if one.name not in NOT_ONE}
    if unknown := set(chosen) - set(scripts):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(scripts)}")
    code, kept = 0, sections(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "")
    for name in chosen or scripts:
        rows, ended = run(scripts[name])
        kept[name] = section(scripts[name], rows)
        code = max(code, ended)
        # Written after each script, so that one that hangs does not lose the results of the others.
        parts = [kept[name] for name in scripts if name in kept]
        PAGE.write_text("\n".join([HEAD, *parts]), encoding="utf-8")
    return code


def run(script: Path) -> tuple[list[dict], int]:
    """The rows that a benchmark printed, and its exit code. A script that fails without a row gets one that says so."""
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and all(row.get("ok", True) for row in rows):
        rows.append({"name": script.stem, "failed": f"ended with {done.returncode} before it finished"})
    return rows, done.returncode


def sections(page: str) -> dict[str, str]:
    """Sections of the page, by benchmark."""
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def section(script: Path, rows: list[dict]) -> str:
    measured = [line(row) for row in rows if "ratio" in row]
    missing = [
        f"- `{row['name']}` was not measured: {row.get('skipped') or row['failed']}"
        for row in rows
        if "ratio" not in row
    ]
    parts = [f"## {script.stem}", summary(script), TABLE + "\n".join(measured) if measured else ""]
    parts += ["\n".join(missing), f"*{machine()}*"]
    return "\n\n".join(filter(None, parts)) + "\n"


def line(row: dict) -> str:
    """One row of a table; a ratio over its limit is marked."""
    name = f"`{row['name']}`" + (f": {row['note']}" if row.get("note") else "")
    medians = f"{row['median_a']:g} {row['unit']} | {row['median_b']:g} {row['unit']}"
    ratio = f"{row['ratio']:g}" + ("" if row["ok"] else " **over**")
    limit = "" if math.isinf(row["limit"]) else f"{row['limit']:g}"
    return f"| {name} | {medians} | {ratio} | {limit} | {row['runs']} |"


def summary(script: Path) -> str:
    """First paragraph of a script's docstring, in one line."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def machine() -> str:
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{processor()}, {joblib.cpu_count()} cores, {memory:.0f} GiB{gpu}; {platform.system()}, "
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
