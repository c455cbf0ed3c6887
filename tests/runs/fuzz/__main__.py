"""Damage sound files of every form and read them as the project does: `make fuzz`.

A mutant escapes if its reader raises anything but the expected kinds of errors, ends its process, or takes more than
10 seconds or 512 MB. Escapes are written to build/fuzz, one file each; the exit code is then 1.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.runs.fuzz import readers, seeds
from tests.runs.fuzz.workers import Escape, fuzz, mutant


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.runs.fuzz", description=__doc__)
    parser.add_argument("--mutants", type=int, default=20_000, help="in all (default: %(default)s, some minutes)")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other mutants (default: %(default)s)")
    parser.add_argument("--forms", nargs="*", help="only these (default: all)")
    parser.add_argument("--mutant", type=int, help="read only this mutant of the one form, in this process")
    options = parser.parse_args(argv)
    forms = seeds.forms()
    chosen = options.forms or list(forms)
    if unknown := set(chosen) - set(forms):
        parser.error(f"no form {', '.join(sorted(unknown))}; there are {', '.join(forms)}")
    if options.mutant is not None:
        return once(chosen[0], options.mutant, seed=options.seed)
    total = sum(forms[name].share for name in chosen)
    escapes: list[Escape] = []
    done = 0
    for name in chosen:
        number = max(1, round(options.mutants * forms[name].share / total))
        found = fuzz(name, number, seed=options.seed)
        done += found.mutants
        line = {"form": name, "mutants": found.mutants, "seconds": round(found.seconds, 1)}
        line |= {"slowest_s": round(found.slowest, 2), "peak_mib": round(found.peak / 2**20)}
        print(json.dumps(line | {"escapes": len(found.escapes)}), flush=True)
        escapes += found.escapes
    report(escapes, seed=options.seed)
    print(json.dumps({"forms": len(chosen), "mutants": done, "escapes": len(escapes)}))
    return 1 if escapes else 0


def once(name: str, number: int, *, seed: int) -> int:
    """Read one mutant and let its error through."""
    readers.prepare()
    with tempfile.TemporaryDirectory() as folder:
        readers.read(seeds.forms()[name].reader, mutant(name, number, seed), Path(folder))
    return 0


def report(escapes: list[Escape], *, seed: int) -> None:
    folder = Path("build/fuzz")
    for one in escapes:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{one.form}-{seed}-{one.number}").write_bytes(mutant(one.form, one.number, seed))
        print(json.dumps({**one._asdict(), "seed": seed}))


if __name__ == "__main__":
    sys.exit(main())
