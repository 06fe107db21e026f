"""Injects faults into the real command line, with a seed. An interrupted campaign resumes.

scripts/torture                    # all cases, about an hour
scripts/torture --short            # a few minutes, as in CI
scripts/torture --only power
scripts/torture --fresh --seed 2   # does not resume
"""

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from random import Random

from . import CASES
from .trial import TrialTally, scratch_folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="WORDS", help="run the cases whose name contains these words")
    parser.add_argument("--fresh", action="store_true", help="ignore the results of earlier campaigns with this seed")
    parser.add_argument("--results", type=Path, default=Path("build/torture.jsonl"))
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore SIGINT for background jobs
    form = "short" if given.short else "long"
    done = _previous_results(given.results, form, given.seed) if not given.fresh else {}
    wanted = [name for name in CASES if given.only in name]
    if not wanted:
        parser.error(f"no case name contains {given.only!r}. Available: {', '.join(CASES)}")
    results: dict[str, dict[str, int] | str] = {}
    for name in wanted:
        if name not in done:
            print(f"{name} ...", file=sys.stderr, flush=True)
            began = time.monotonic()
            with scratch_folder() as base:
                got = CASES[name](base, Random(f"{given.seed} {name}"), given.short)
            done[name] = got if isinstance(got, str) else asdict(got)
            print(f"  {done[name]}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            given.results.parent.mkdir(parents=True, exist_ok=True)
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"form": form, "seed": given.seed, "case": name, "got": done[name]}) + "\n")
        results[name] = done[name]
    columns = [field.name for field in fields(TrialTally)]
    print(f"| | {' | '.join(column.replace('_', ' ') for column in columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    for name, got in results.items():
        print(f"| {name} | {f'not run: {got}' if isinstance(got, str) else ' | '.join(map(str, got.values()))} |")
    return int(any(not TrialTally(**got).is_clean for got in results.values() if not isinstance(got, str)))


def _previous_results(results: Path, form: str, seed: int) -> dict[str, dict[str, int] | str]:
    lines = map(json.loads, results.read_text(encoding="utf-8").splitlines()) if results.exists() else ()
    return {line["case"]: line["got"] for line in lines if (line["form"], line["seed"]) == (form, seed)}


if __name__ == "__main__":
    sys.exit(main())
