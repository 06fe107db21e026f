"""Grades the demo checkpoint on new drawings: the whole pipeline captions encoded files.

python -m tools.grade_demo_model                     # 500 images and 500 clips, each in both orders
python -m tools.grade_demo_model --count 50 --model CHECKPOINT
python -m tools.grade_demo_model --model NAME --base-url http://localhost:8080/v1    # through a server
"""

import argparse
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemma_captioner import Captioned, Run, Settings
from gemma_captioner.demo.drawing import SIZE
from gemma_captioner.demo.samples import draw_samples

SEED = 990_000  # differs from the seeds of the training (0, 1) and the samples (2026)


@dataclass(frozen=True)
class Grade:
    images: int
    clips: int
    wrong: dict[str, tuple[str, str]]  # file name -> (caption, correct caption)

    def share(self, suffix: str) -> float:
        """Return the share of exactly correct captions, 0 to 1: of clips for `.mp4`, else of images."""
        of, is_clip = (self.clips, True) if suffix == ".mp4" else (self.images, False)
        return 1 - sum(name.endswith(".mp4") == is_clip for name in self.wrong) / of


def grade(count: int, order: str, seed: int = SEED, **settings: Any) -> Grade:
    """Caption `count` images and `count` clips. A file without a caption counts as wrong.

    Args:
        settings: Differences from the demo's settings: another checkpoint, or a server.
    """
    given = Settings.from_dict({"model": "demo", "order": order, **settings})
    with tempfile.TemporaryDirectory() as folder:
        truth = draw_samples(Path(folder), images=count, clips=count, seed=seed)
        captions = {}
        with closing(Run([Path(folder)], given)) as run:
            for outcome in run:
                if isinstance(outcome, Captioned):
                    captions[outcome.item.path.name] = outcome.caption
    wrong = {name: (captions.get(name, ""), true) for name, true in truth.items() if captions.get(name) != true}
    return Grade(count, count, wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="number of images, and of clips")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--base-url", help="grade what this server says")
    given = parser.parse_args()
    settings = {"model": given.model}
    if given.base_url:
        settings |= {"base_url": given.base_url, "image_size": SIZE, "image_format": "png", "engine": "server"}
    for order in ("media-first", "text-first"):
        since = time.monotonic()
        graded = grade(given.count, order, given.seed, **settings)
        print(
            f"{order}: {graded.share('.png'):.1%} of {given.count} images and {graded.share('.mp4'):.1%} of "
            f"{given.count} clips exactly right, {time.monotonic() - since:.0f} s"
        )
        for name, (caption, true) in list(graded.wrong.items())[:10]:
            print(f"  {name}: {caption!r}, expected {true!r}")


if __name__ == "__main__":
    main()
