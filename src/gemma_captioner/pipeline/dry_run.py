"""The dry run: what a run would do, without loading a model."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..captions.formats import get_format
from ..config.settings import Settings
from ..dataset.discover import resolve_roots
from ..engines import Engine, engine_for
from ..errors import StartError
from ..prompts.examples import read_examples
from ..prompts.metadata import load_metadata
from ..text import counted
from ..types import Failed, Kind, MediaItem
from .planner import Plan


@dataclass(frozen=True)
class DryRunReport:
    """The counts of a dry run. `frames` and `prompt_tokens` are maxima: a short clip may have fewer frames."""

    pending: Counter[Kind]  # files to caption
    frames: int
    prompt_tokens: int | None  # None if the configuration of the model cannot be loaded
    existing: int  # files to skip
    failures: list[Failed]
    ignored: int  # files that are neither images nor clips
    model: str
    shortage: str | None  # why the model cannot run here
    warnings: tuple[str, ...] = ()  # what may not work for a kind of item

    @property
    def files(self) -> int:
        return self.pending.total()

    @property
    def exit_code(self) -> int:
        if self.shortage or not (self.files or self.existing or self.failures):
            return 1
        return 3 if self.failures else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "images": self.pending["image"],
            "clips": self.pending["clip"],
            "frames": self.frames,
            "prompt_tokens": self.prompt_tokens,
            "existing": self.existing,
            "ignored": self.ignored,
            "model": self.model,
            "shortage": self.shortage,
            "warnings": list(self.warnings),
            "failures": [{"path": str(f.item.path), "error": f.error} for f in self.failures],
        }

    def as_text(self) -> str:
        tokens = "" if self.prompt_tokens is None else f", {counted(self.prompt_tokens, 'prompt token')}"
        lines = [
            f"to caption   {counted(self.pending['image'], 'image')}, {counted(self.pending['clip'], 'clip')}",
            f"at most      {counted(self.frames, 'frame')}{tokens}",
            f"to skip      {counted(self.existing, 'file')}",
            f"ignored      {counted(self.ignored, 'other file')}",
            f"model        {self.model}" if not self.shortage else f"cannot run   {self.shortage}",
        ]
        lines += [f"warning      {warning}" for warning in self.warnings]
        lines += [f"would fail   {f.item.path}: {f.error}" for f in self.failures]
        if not (self.files or self.existing or self.failures):
            lines.append("nothing      no images or clips found: check the folder, or add --recursive for subfolders")
        return "\n".join(lines)


def dry_run(paths: Iterable[Path], settings: Settings) -> DryRunReport:
    """Count what a run would do. Raises `UsageError` or `StartError` if a setting or a path is invalid."""
    load_metadata(settings)  # checks the variables in the prompts
    get_format(settings.format)
    plan = Plan(resolve_roots(paths, settings.selection.output), settings)
    pending, existing, failures = Counter[Kind](), 0, []
    for step in plan:
        if isinstance(step, MediaItem):
            pending[step.kind] += 1
        elif isinstance(step, Failed):
            failures.append(step)
        else:
            existing += 1
    model, shortage, prompt_tokens = settings.model.model, None, None
    warnings: list[str] = []
    try:
        engine = engine_for(settings, examples=read_examples(settings.prompting.examples))
        prompt_tokens = sum(
            n * (engine.prompt_tokens(prompt, kind, settings.frames(kind)) + settings.previous_tokens(prompt, kind))
            for kind, n in pending.items()
            for prompt in settings.prompts[kind]
        )
        model = engine.describe()
        warnings += _context_warnings(engine, settings, pending)
    except StartError as error:  # the counts are useful even if the model cannot run
        shortage = str(error)
    return DryRunReport(
        pending=pending,
        frames=sum(n * settings.frames(kind) for kind, n in pending.items()),
        prompt_tokens=prompt_tokens,
        existing=existing,
        failures=failures,
        ignored=plan.ignored,
        model=model,
        shortage=shortage,
        warnings=tuple(warnings),
    )


def _context_warnings(engine: Engine, settings: Settings, pending: Counter[Kind]) -> Iterator[str]:
    """Yield a warning for each kind of item whose largest prompt may not fit in the context with its answer."""
    for kind in sorted(pending):
        frames, answer = settings.frames(kind), settings.max_new_tokens(kind)
        tokens = answer + max(engine.prompt_tokens(prompt, kind, frames) for prompt in settings.prompts[kind])
        if tokens > engine.spec.context_length:
            remedy = "use fewer --frames, or give the model" if kind == "clip" else "give the model"
            yield (
                f"{counted(pending[kind], kind)}: up to {tokens:,} tokens with the answer ({answer:,}), but the "
                f"context has {engine.spec.context_length:,}: {remedy} a larger context"
            )
