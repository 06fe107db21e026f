"""`check --look`: asks the model which phrases are visible in a sample of files. One request a file, for all phrases.

Nothing is written beside the media: the pipeline's captions and journals go to a temporary folder.
"""

import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..compare.sample import evenly_spaced
from ..compare.shared_engine import SharedEngine, SharedModel
from ..config.settings import Settings
from ..dataset.discover import EXTENSIONS
from ..engines import engine_for
from ..pipeline.scheduler import Pipeline
from ..text import counted
from ..types import Failed, MediaItem, Reply, Request

MAX_PHRASES = 10  # of a request
_TOKENS_PER_ANSWER, _MORE_TOKENS = 8, 24
_QUESTION = """\
For each numbered item, say whether it is visible in {media}:
{items}
Answer with one line for each item: its number, and yes or no. Write nothing else."""
_ANSWER = re.compile(r"(?<!\d)(\d{1,2})\s*[.):\-]\s*(?:[^\n\d]*?\b)?(yes|no)\b", re.IGNORECASE)
_BARE_ANSWER = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_MIN_ANSWERS = 3  # for a verdict
_MAX_SEEN_IF_WRONG, _MIN_SEEN_IF_LEARNED = 0.6, 0.8


def question(phrases: Sequence[str], kind: str) -> str:
    """# For each numbered item, say whether it is visible in this image: 1. denim jacket ..."""
    items = "\n".join(f"{n}. {phrase}" for n, phrase in enumerate(phrases, 1))
    return _QUESTION.format(media="this image" if kind == "image" else "this clip", items=items)


def parse_answers(text: str, count: int) -> list[bool | None]:
    """Return the answer for each phrase; None where there is neither yes nor no, or both.

    # "1. Yes\\n2. No", 3 -> [True, False, None]      "1: denim jacket - yes", 1 -> [True]      "A cat.", 1 -> [None]
    """
    found: dict[int, set[bool]] = {}
    for number, word in _ANSWER.findall(text):
        found.setdefault(int(number), set()).add(word.lower() == "yes")
    if not found and count == 1 and (bare := _BARE_ANSWER.match(text)):
        found[1] = {bare[1].lower() == "yes"}
    return [next(iter(answer)) if len(answer := found.get(n, set())) == 1 else None for n in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class PhraseVisibility:
    """In how many files the model saw a phrase. named: only files whose caption has the phrase."""

    visible: int
    answered: int
    named_visible: int
    named: int

    @property
    def is_wrong(self) -> bool:
        """Whether the captions name something that is not visible."""
        return self.named >= _MIN_ANSWERS and self.named_visible <= _MAX_SEEN_IF_WRONG * self.named

    @property
    def is_learned(self) -> bool:
        """Whether it is visible in nearly every file, so that the LoRA learns it."""
        return self.answered >= _MIN_ANSWERS and self.visible >= _MIN_SEEN_IF_LEARNED * self.answered


@dataclass
class LookResult:
    """The answers of the model. replies: caption path -> answer."""

    phrases: Sequence[str]
    model: str
    replies: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # caption path -> error

    def visibility(self, phrase: str, captions_with: Collection[str]) -> PhraseVisibility | None:
        """Return None if the model was not asked about it. captions_with: the paths of the captions that have it."""
        if phrase not in self.phrases:
            return None
        index, count = self.phrases.index(phrase), len(self.phrases)
        answers = {path: parse_answers(reply, count)[index] for path, reply in self.replies.items()}
        clear = {path: answer for path, answer in answers.items() if answer is not None}
        named = [answer for path, answer in clear.items() if path in captions_with]
        return PhraseVisibility(sum(clear.values()), len(clear), sum(named), len(named))

    @property
    def unclear(self) -> int:
        """How many answers are neither yes nor no."""
        count = len(self.phrases)
        return sum(parse_answers(reply, count).count(None) for reply in self.replies.values())

    @property
    def warnings(self) -> list[str]:
        """Lines for the user."""
        lines, answers = [], len(self.replies) * len(self.phrases)
        if self.failed:
            path, error = next(iter(self.failed.items()))
            lines.append(
                f"{counted(len(self.failed), 'file')} could not be looked at, such as {Path(path).stem}: {error}"
            )
        if self.unclear:
            example = next(r for r in self.replies.values() if None in parse_answers(r, len(self.phrases)))
            lines.append(
                f"{self.unclear:,} of {counted(answers, 'answer')} of {self.model} say neither yes nor no, such as "
                f"{' '.join(example.split())[:60]!r}: they do not count. Use an instruction-tuned model (-it)"
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "files": len(self.replies),
            "failures": [{"path": path, "error": error} for path, error in self.failed.items()],
            "answers": len(self.replies) * len(self.phrases),
            "unclear": self.unclear,
        }


@dataclass(frozen=True, slots=True)
class LookPlan:
    """The requests of --look. media: caption path -> its image or clip."""

    settings: Settings
    phrases: Sequence[str]
    media: Mapping[str, str]

    @classmethod
    def of(cls, layer: Mapping[str, Any], phrases: Sequence[str], media: Mapping[str, str], limit: int) -> "LookPlan":
        """layer: the settings of the model and the server. limit: the most files to look at."""
        asked = phrases[:MAX_PHRASES]
        sample = [list(media.items())[index] for index in evenly_spaced(len(media), limit)]
        prompts = {kind: {"prompt": question(asked, kind)} for kind in ("image", "clip")}
        fixed = {
            "audio": "off",
            "retries": 0,
            "max_new_tokens": _TOKENS_PER_ANSWER * len(asked) + _MORE_TOKENS,
            **prompts,
        }
        return cls(Settings.from_dict(layer, fixed), asked, dict(sample))

    def items(self, folder: Path) -> list[MediaItem]:
        """The files, with captions in a folder of their own."""
        items = []
        for number, path in enumerate(map(Path, self.media.values())):
            kind = EXTENSIONS[path.suffix[1:].lower()]
            items.append(MediaItem(path, kind, path.name, folder / f"{number}.txt", folder))
        return items

    def cost(self, log: Callable[[str], None]) -> dict[str, Any]:
        """What `ask` would send. Reads the model's configuration, no weights. Raises `StartError`."""
        engine = engine_for(self.settings, log)
        kinds = [item.kind for item in self.items(Path())]
        frames = [self.settings.frames(kind) for kind in kinds]
        return {
            "requests": len(kinds),
            "phrases": list(self.phrases),
            "frames": sum(frames),
            "prompt_tokens": sum(
                engine.prompt_tokens(self.settings.prompts[kind][0], kind, count)
                for kind, count in zip(kinds, frames, strict=True)
            ),
            "model": engine.describe(),
        }

    def ask(self, log: Callable[[str], None], on_reply: Callable[[int], None] = lambda done: None) -> LookResult:
        """Send the requests. on_reply: receives the number of files that are done. Raises `StartError`."""
        replies: dict[str, str] = {}  # by media path
        captions = {media: caption for caption, media in self.media.items()}
        with closing(SharedModel(self.settings)) as shared_model, tempfile.TemporaryDirectory() as folder:
            asked: dict[int, str] = {}  # request id -> media path

            def on_request(request: Request) -> None:
                asked[request.id] = str(request.item.path)

            def keep_reply(reply: Reply) -> None:
                replies[asked[reply.request_id]] = reply.text

            engine = SharedEngine(shared_model, self.settings, on_request, keep_reply)
            pipeline = Pipeline(self.settings, engine, stores=1, log=log)
            result = LookResult(self.phrases, self.settings.model.model)
            with closing(pipeline.run(iter(self.items(Path(folder))))) as outcomes:
                for done, outcome in enumerate(outcomes, 1):
                    media = str(outcome.item.path)
                    if media in replies:  # also if it makes no caption
                        result.replies[captions[media]] = replies[media]
                    elif isinstance(outcome, Failed):
                        result.failed[captions[media]] = outcome.error
                    on_reply(done)
        return result
