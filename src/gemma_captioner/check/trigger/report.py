"""`check --trigger`: what a LoRA will learn from the captions about its trigger word, as findings and as JSON."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ...text import counted
from ..inspect import Inspection
from ..look import LookResult, PhraseVisibility
from ..rules import Finding
from ..settings import CheckSettings
from .phrases import SharedPhrase, shared_phrases
from .word import TriggerUse, exact_pattern, trigger_use

_MAX_NAMES, _MAX_WORDS = 3, 10


@dataclass
class TriggerReport:
    """Give `add` each caption, then read `findings`. It holds the texts of all captions."""

    trigger: str
    folder: Path
    settings: CheckSettings = field(default_factory=CheckSettings)
    look: LookResult | None = None
    _uses: dict[str, TriggerUse] = field(default_factory=dict)  # caption path -> how it uses the trigger
    _texts: dict[str, Sequence[str]] = field(default_factory=dict)

    def add(self, path: str, inspection: Inspection) -> None:
        texts = inspection.texts or (inspection.text,)
        # ai-toolkit replaces these with the trigger word.
        if self.settings.trainer in ("", "ai-toolkit"):
            texts = [text.replace("[trigger]", self.trigger).replace("[name]", self.trigger) for text in texts]
        self._texts[path], self._uses[path] = texts, trigger_use(texts, self.trigger)

    @property
    def captions(self) -> int:
        return len(self._uses)

    @cached_property
    def with_trigger(self) -> list[str]:
        """The paths of the captions that have it, in any spelling."""
        return [path for path, use in self._uses.items() if use.is_used]

    @cached_property
    def phrases(self) -> list[SharedPhrase]:
        if self.settings.language != "english":  # as the word lists are
            return []
        variants = {variant for use in self._uses.values() for variant in use.variants}
        spellings = [exact_pattern(self.trigger), *(exact_pattern(variant) for variant in sorted(variants, key=len))]
        pattern = re.compile(rf"(?:{'|'.join(reversed(spellings))})(?:['\u2019]s)?", re.IGNORECASE)
        without = [texts for path, texts in self._texts.items() if not self._uses[path].is_used]
        return shared_phrases([self._texts[path] for path in self.with_trigger], without, pattern)

    # Findings

    def findings(self) -> Iterator[Finding]:
        """Yield the findings, each of the folder."""
        if not self.captions:
            return
        if not self.with_trigger:
            yield self._finding("trigger_absent", f"{self.trigger!r}, {counted(self.captions, 'caption')}")
        elif missing := [path for path, use in self._uses.items() if not use.is_used]:
            yield self._finding("no_trigger", self._in_captions(missing))
        variants, inside = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for path, use in self._uses.items():
            for found, words in ((variants, use.variants), (inside, use.inside)):
                for word in words:
                    found[word].append(path)
        for word in _most_frequent(variants)[:_MAX_WORDS]:
            yield self._finding("trigger_spelling", f"{word!r} in {self._in_captions(variants[word])}")
        if inside:
            others = _listed(list(map(repr, _most_frequent(inside))))
            paths = list(dict.fromkeys(path for found in inside.values() for path in found))
            yield self._finding("trigger_in_word", f"{others}, in {self._in_captions(paths)}")
        for phrase in self.phrases:
            yield self._phrase_finding(phrase)

    def _finding(self, code: str, detail: str) -> Finding:
        return Finding(str(self.folder), code, detail)

    def _in_captions(self, paths: Sequence[str]) -> str:
        """# 2 of 40 captions (7.txt, 9.txt)"""
        return f"{len(paths)} of {counted(self.captions, 'caption')} ({_listed([Path(path).name for path in paths])})"

    def _phrase_finding(self, phrase: SharedPhrase) -> Finding:
        """# "denim jacket" (clothing) in 48 of 50 pictures and 50 of 50 captions: the trigger will learn it"""
        code = "names_identity" if phrase.is_leak else "fused_with_trigger"
        where = f"{phrase.captions} of {counted(len(self.with_trigger), 'caption')}"
        if phrase.lift is not None:
            where += f" with the trigger, {phrase.lift:.1f} times as often as without"
        verdict = ""
        if (seen := self.visibility(phrase)) is not None and seen.answered:
            pictures = f"{seen.visible} of {counted(seen.answered, 'picture')}"
            if seen.is_wrong:
                code, verdict = "not_in_pictures", ": the captions are wrong"
                if seen.named < seen.answered:
                    pictures = f"{seen.named_visible} of {seen.named} pictures whose captions name it"
            elif seen.is_learned and not phrase.is_leak:
                verdict = ": the trigger will learn it"
            where = f"{pictures} and {where}"
        return self._finding(code, f'"{phrase.phrase}" ({phrase.kind}) in {where}{verdict}')

    def visibility(self, phrase: SharedPhrase) -> PhraseVisibility | None:
        """How often the model saw a phrase; None without --look, and if the model was not asked about it."""
        if self.look is None:
            return None
        return self.look.visibility(phrase.phrase, {self.with_trigger[index] for index in phrase.found_in})

    def as_json(self) -> dict[str, Any]:
        return {
            "word": self.trigger,
            "captions": self.captions,
            "with_trigger": len(self.with_trigger),
            "phrases": [self._phrase_as_json(phrase) for phrase in self.phrases],
            "look": None if self.look is None else self.look.as_json(),
        }

    def _phrase_as_json(self, phrase: SharedPhrase) -> dict[str, Any]:
        seen = self.visibility(phrase)
        return {
            "phrase": phrase.phrase,
            "kind": phrase.kind,
            "changeable": phrase.should_stay_changeable,
            "captions": phrase.captions,
            "share": round(phrase.share, 3),
            "lift": None if phrase.lift is None else round(phrase.lift, 2),
            "visible": None if seen is None else seen.visible,
            "looked_at": None if seen is None else seen.answered,
        }


def _listed(names: Sequence[str]) -> str:
    """# a, b, c and 2 more"""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _most_frequent(words: Mapping[str, Sequence[str]]) -> list[str]:
    return sorted(words, key=lambda word: (-len(words[word]), word))
