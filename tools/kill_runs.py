"""Kill captioning runs with `kill -9` at random, start them again, and compare with a run that was left alone.

python tools/kill_runs.py                        # 300 mixed files, 10 kills
python tools/kill_runs.py --files 60 --kills 3 --seed 4
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from gemma_captioner.demo.samples import draw_samples


@dataclass(frozen=True)
class Campaign:
    """lost, different: files without the caption, or with another than, the undisturbed run's.

    partial: caption files that were not whole at any look, and temporary files left outside `.gemma-captioner`.
    repeated: captions in the journal beyond one a file. A kill may void the one that is being stored: one each at most.
    """

    files: int
    kills: int
    lost: int
    different: int
    partial: int
    repeated: int
    exit_code: int


def campaign(files: int, kills: int, seed: int) -> Campaign:
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as base:
        alone, killed = Path(base, "alone"), Path(base, "killed")
        draw_samples(alone, images=files // 2, clips=files - files // 2, seed=seed)
        shutil.copytree(alone, killed, copy_function=shutil.copy2)
        subprocess.run(_command(alone), check=True, capture_output=True)
        expected = _captions(alone)
        partial = 0
        for _ in range(kills):
            _kill_after(killed, rng.randint(1, max(2, files // (kills + 2))), rng.uniform(0, 0.2))
            partial += sum(caption != expected[name] for name, caption in _captions(killed).items())
        finished = subprocess.run(_command(killed), capture_output=True)
        got = _captions(killed)
        strays = {p.name for p in killed.iterdir()} - {p.name for p in alone.iterdir()}
        return Campaign(
            files=files,
            kills=kills,
            lost=len(expected.keys() - got.keys()),
            different=sum(got[name] != expected[name] for name in got),
            partial=partial + len(strays),
            repeated=sum(_made(killed).values()) - files,
            exit_code=finished.returncode,
        )


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "gemma_captioner", "caption", str(folder), "--model", "demo"]


def _captions(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}


def _kill_after(folder: Path, captions: int, delay_s: float) -> None:
    """Start a run and kill it once it has stored so many captions, and a moment has passed."""
    before = len(list(folder.glob("*.txt")))
    process = subprocess.Popen(_command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(folder.glob("*.txt"))) < before + captions:
        time.sleep(0.002)
    time.sleep(delay_s)
    process.kill()
    process.wait()


def _made(folder: Path) -> Counter[str]:
    made: Counter[str] = Counter()
    for path in (folder / ".gemma-captioner" / "runs").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # torn by the kill
                continue
            if entry["kind"] == "caption":
                made[entry["caption_file"]] += 1
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(campaign(given.files, given.kills, given.seed))


if __name__ == "__main__":
    main()
