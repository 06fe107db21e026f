"""Precision and recall of `check --trigger` on labeled folders of captions.

python benchmarks/trigger.py              # a Markdown table; docs/check.md describes the folders
python benchmarks/trigger.py --shares     # the same at other shares of the captions
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gemma_captioner.check.inspect import Inspection
from gemma_captioner.check.trigger import phrases
from gemma_captioner.check.trigger.lexicon import stem
from gemma_captioner.check.trigger.report import TriggerReport

DATA = Path(__file__).parent.parent / "tests" / "data"
TUNED_ON, NOT_SEEN = ("character", "style", "object"), ("pet", "tags", "man", "prefix")


@dataclass(frozen=True)
class Score:
    """Of labels: found, missed. Of reported phrases: wrong. Those that are optional or repeat a label do not count."""

    found: int = 0
    wrong: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()

    def __add__(self, other: "Score") -> "Score":
        return Score(self.found + other.found, self.wrong + other.wrong, self.missed + other.missed)

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + len(self.wrong))

    @property
    def recall(self) -> float:
        return self.found / max(1, self.found + len(self.missed))


def read_folder(name: str) -> dict:
    return json.loads((DATA / f"trigger-{name}.json").read_text(encoding="utf-8"))


def report_on(folder: dict) -> TriggerReport:
    report = TriggerReport(folder["trigger"], Path("dataset"))
    for number, caption in enumerate(folder["captions"]):
        report.add(f"{number:02}.txt", Inspection([], caption))
    return report


def score(name: str) -> Score:
    folder = read_folder(name)
    found, wrong = set(), []
    for phrase in report_on(folder).phrases:
        labels = [label for label in folder["report"] if _matches(phrase.phrase, [label])]
        found.update(labels)
        if not labels and not _matches(phrase.phrase, folder["optional"]):
            wrong.append(phrase.phrase)
    return Score(len(found), tuple(wrong), tuple(label for label in folder["report"] if label not in found))


def _matches(phrase: str, labels: Iterable[str]) -> bool:
    """Whether the phrase has all words of a label, or of one of its forms: "blurred background|background"."""
    words = {stem(word) for word in phrase.split()}
    return any({stem(w) for w in form.split()} <= words for label in labels for form in label.split("|"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", action="store_true")
    args = parser.parse_args()
    print("| folders | share | labels | precision | recall | wrong | missed |\n|---|---|---|---|---|---|---|")
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) if args.shares else (phrases.MIN_SHARE,):
        phrases.MIN_SHARE = share
        for names in (TUNED_ON, NOT_SEEN):
            total = sum(map(score, names), Score())
            labels = total.found + len(total.missed)
            figures = f"{share:.0%} | {labels} | {total.precision:.2f} | {total.recall:.2f}"
            print(f"| {', '.join(names)} | {figures} | {', '.join(total.wrong)} | {', '.join(total.missed)} |")


if __name__ == "__main__":
    main()
