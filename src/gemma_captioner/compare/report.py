"""Presents a comparison as rows and figures, as an HTML page and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..pages import render_page
from ..text import counted, printable
from ..types import Kind
from .comparison import CaptionResult, Comparison, SampledFrames, VariantResults
from .sample import names_of


@dataclass(frozen=True, slots=True)
class FileRow:
    """The results for one file."""

    name: str
    sampled_frames: Sequence[tuple[str, SampledFrames]]  # with the variants' letters, "" if all saw the same frames
    answers: Sequence[tuple[VariantResults, CaptionResult]]

    @property
    def kind(self) -> Kind | None:
        """None if the file could not be read."""
        return self.sampled_frames[0][1].kind if self.sampled_frames else None

    @property
    def about(self) -> str:
        """`clip of 2.0 s, 640 x 360`"""
        if not self.sampled_frames:
            return ""
        seen = self.sampled_frames[0][1]
        duration = f" of {seen.duration_s:.1f} s" if seen.kind == "clip" else ""
        return f"{seen.kind}{duration}, {seen.size[0]} x {seen.size[1]}"


def rows(comparison: Comparison) -> Iterator[FileRow]:
    for item, name in zip(comparison.items, names_of(comparison.items), strict=True):
        sampled_frames = [
            (", ".join(c.variant.letter for c in saw), seen) for saw, seen in comparison.sampled_frames(item)
        ]
        yield FileRow(
            name=printable(name),
            sampled_frames=sampled_frames if len(sampled_frames) > 1 else [("", seen) for _, seen in sampled_frames],
            answers=[(c, c.answers[item.path]) for c in comparison.columns if item.path in c.answers],
        )


def measures(column: VariantResults, answer: CaptionResult) -> list[str]:
    """["0.21 s", "9 words", "14 of 75 tokens"]"""
    parts = [f"{answer.seconds:.2f} s", counted(answer.words, "word")]
    if column.limit is not None:
        parts.append(f"{answer.tokens} of {column.limit.max_tokens} tokens")
    return parts


def summary(column: VariantResults) -> dict[str, str]:
    """Return the figures of a variant by heading; "" for a missing figure."""
    seconds, words, loading = column.seconds_per_file, column.mean_words, column.load_seconds
    return {
        "s/file": "" if seconds is None else f"{seconds:.2f}",
        "words": "" if words is None else f"{words:.0f}",
        "flagged": str(column.flagged) if column.answers else "",
        "failed": str(column.failed) if column.answers else "",
        "loading": "" if loading is None else f"{loading:.1f} s",
    }


def errors(comparison: Comparison) -> dict[str, list[str]]:
    """Return the distinct errors that stopped variants -> the letters of those variants."""
    letters: dict[str, list[str]] = {}
    for column in comparison.columns:
        if column.error is not None:
            letters.setdefault(column.error, []).append(column.variant.letter)
    return letters


def prompts(comparison: Comparison) -> Iterator[str]:
    """Yield the prompt text of each variant, "" if its name or an earlier variant contains it.

    If images and clips have different prompts: "image: ...", "clip: ..." on lines of their own.
    """
    kinds = sorted({item.kind for item in comparison.items})
    shown = set()
    for variant in (column.variant for column in comparison.columns):
        by_kind = {kind: "\n".join(variant.settings.prompts[kind]) for kind in kinds}
        is_same = len(set(by_kind.values())) == 1
        text = by_kind[kinds[0]] if is_same else "\n".join(f"{kind}: {prompt}" for kind, prompt in by_kind.items())
        yield "" if text in shown or f'"{text}"' in variant.name else text
        shown.add(text)


def as_page(comparison: Comparison, *, title: str, about: str) -> str:
    return render_page(
        "compare.html",
        title=title,
        about=about,
        columns=list(zip(comparison.columns, prompts(comparison), strict=True)),
        errors=errors(comparison),
        rows=list(rows(comparison)),
        measures=measures,
        summary=summary,
    )


def as_json(comparison: Comparison) -> list[dict[str, Any]]:
    """One JSON object per variant."""
    return [_column_as_json(comparison, column) for column in comparison.columns]


def _column_as_json(comparison: Comparison, column: VariantResults) -> dict[str, Any]:
    settings = column.variant.settings
    figures: Mapping[str, float | None] = {
        "load_seconds": column.load_seconds,
        "seconds_a_file": column.seconds_per_file,
        "mean_words": column.mean_words,
    }
    return {
        "variant": column.variant.letter,
        "name": column.variant.name,
        "model": settings.model.model,
        "preset": settings.prompting.preset,
        "frames": settings.sampling.frames,
        "error": column.error,
        **{name: None if value is None else round(value, 3) for name, value in figures.items()},
        "flagged": column.flagged,
        "failed": column.failed,
        "limit": None if column.limit is None else column.limit.max_tokens,
        "captions": [
            {
                "path": str(item.path),
                "caption": None if answer.error is not None else answer.caption,
                "error": answer.error,
                "flags": answer.flags,
                "prompt": answer.prompt,
                "frame_times_s": answer.times_s,
                "seconds": round(answer.seconds, 3),
                "words": answer.words,
                "tokens": answer.tokens,
                "new_tokens": answer.new_tokens,
            }
            for item in comparison.items
            if (answer := column.answers.get(item.path)) is not None
        ],
    }
