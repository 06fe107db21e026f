"""Precision and recall of the text flags, on labeled captions.

python benchmarks/flags.py              # a Markdown table of all sets; docs/flags.md describes them
python benchmarks/flags.py --wrong      # also each wrongly flagged caption of the first and the last set
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gemma_captioner.captions.flags import evaluate
from gemma_captioner.captions.sound import sound_flags
from gemma_captioner.captions.unfinished import is_unfinished

DATA = Path(__file__).parent.parent / "tests" / "data"
SETS = {
    "first": "flags.jsonl",
    "second": "flags-unseen.jsonl",
    "real model": "flags-real.jsonl",
    "ends": "flags-unfinished.jsonl",  # `check` alone looks for it
    "sound": "flags-sound.jsonl",
}
JUDGED = ("absent_things", "empty", "not_in_language", "prompt_echo", "refusal", "repetition")


def labeled(name: str) -> list[dict[str, Any]]:
    """Return one example per labeled caption and flag."""
    lines = [json.loads(line) for line in (DATA / SETS[name]).read_text(encoding="utf-8").splitlines()]
    if name == "sound":
        return [example for line in lines for example in _by_sound(line)]
    return lines if "flag" in lines[0] else [example for line in lines for example in _by_flag(line)]


def _by_flag(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the examples of an answer that is labeled with all its flags, except flags marked as unsure."""
    fields = {"caption": " ".join(line["answer"].split()), "prompt": line["prompt"]}
    flags = [flag for flag in JUDGED if flag not in line.get("unsure", ())]
    return [{**fields, "flag": flag, "expected": flag in line["flags"]} for flag in flags]


def _by_sound(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the examples of a caption: of a clip with sound, and of one without."""
    mention = "none" if line["sound"] == "absent" else line["sound"]
    return [
        {"caption": line["caption"], "flag": "sound_missing", "is_heard": True, "expected": mention == "none"},
        {"caption": line["caption"], "flag": "sound_invented", "is_heard": False, "expected": mention == "heard"},
    ]


def is_flagged(example: dict[str, Any]) -> bool:
    if example["flag"] == "unfinished":
        return is_unfinished(example["caption"], example.get("language", "english"))
    if "is_heard" in example:
        return example["flag"] in sound_flags(example["caption"], example["is_heard"])
    return example["flag"] in evaluate(
        example["caption"], prompt=example.get("prompt", ""), language=example.get("language", "english")
    )


def precision_and_recall(examples: Iterable[dict[str, Any]]) -> tuple[float, float]:
    judged = [(is_flagged(example), example["expected"]) for example in examples]
    right = sum(flagged and expected for flagged, expected in judged)
    return right / max(1, sum(f for f, _ in judged)), right / max(1, sum(e for _, e in judged))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true")
    args = parser.parse_args()
    print("| flag | set | captions | precision | recall |\n|---|---|---|---|---|")
    for name in SETS:
        examples = labeled(name)
        for flag in dict.fromkeys(sorted(example["flag"] for example in examples)):
            of_flag = [example for example in examples if example["flag"] == flag]
            precision, recall = precision_and_recall(of_flag)
            print(f"| {flag} | {name} | {len(of_flag)} | {precision:.3f} | {recall:.3f} |")
    if args.wrong:
        for example in [*labeled("first"), *labeled("sound")]:
            if is_flagged(example) != example["expected"]:
                print(("missed " if example["expected"] else "falsely ") + example["flag"], example["caption"][:400])


if __name__ == "__main__":
    main()
