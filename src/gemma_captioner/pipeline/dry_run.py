"""The dry run: what a run would do, without loading a model."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..captions.formats import get_format
from ..config.settings import Settings
from ..dataset.containment import check_store_is_contained
from ..dataset.discover import Collision, resolve_roots
from ..dataset.unsearched import describe_unsearched
from ..engines import engine_for
from ..engines.sound import plan_sound
from ..errors import StartError
from ..prompts.context import Context
from ..prompts.metadata import MetadataTable, load_metadata
from ..prompts.sources import EditPairs
from ..prompts.variables import find_empty_variable, text_values
from ..storage.filesystem import may_write
from ..text import counted
from ..types import Failed, Kind, MediaItem
from .context_length import check_context_length, describe_references
from .failures import describe_collisions, describe_failures
from .item import existing_caption, templates
from .model_choice import resolve_auto_model
from .planner import Plan
from .transcription import Transcripts


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
    audio_tokens: int = 0  # of the prompt tokens, those for sound
    notes: tuple[str, ...] = ()  # what the run would report
    why_empty: str = ""

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
            "audio_tokens": self.audio_tokens,
            "existing": self.existing,
            "ignored": self.ignored,
            "model": self.model,
            "shortage": self.shortage,
            "notes": list(self.notes),
            "failures": [{"path": str(f.item.path), "error": f.error} for f in self.failures],
        } | ({"error": self.shortage} if self.shortage else {})

    def as_text(self) -> str:
        tokens = "" if self.prompt_tokens is None else f", {counted(self.prompt_tokens, 'prompt token')}"
        tokens += f" ({self.audio_tokens:,} for sound)" if self.audio_tokens else ""
        lines = [
            f"to caption   {counted(self.pending['image'], 'image')}, {counted(self.pending['clip'], 'clip')}",
            f"at most      {counted(self.frames, 'frame')}{tokens}",
            f"to skip      {counted(self.existing, 'file')}",
            f"ignored      {counted(self.ignored, 'other file')}",
            f"model        {self.model}" if not self.shortage else f"cannot run   {self.shortage}",
        ]
        lines += [f"note         {note}" for note in self.notes]
        others = [(str(f.item.path), f.error) for f in self.failures if not isinstance(f, Collision)]
        lines += [f"{'would fail' * (line[0] != ' '):13}{line}" for line in describe_failures(others)]
        if collisions := [str(f.item.path) for f in self.failures if isinstance(f, Collision)]:
            lines.insert(0, f"would fail   {describe_collisions(collisions)}")
        if not (self.files or self.existing or self.failures):
            lines.append(f"nothing      no images or clips found {self.why_empty}")
        return "\n".join(lines)


def dry_run(paths: Iterable[Path], settings: Settings) -> DryRunReport:
    """Count what a run would do. Raises `UsageError` or `StartError` if a setting or a path is invalid."""
    metadata = load_metadata(settings)  # checks the variables in the prompts
    transcripts = Transcripts(settings, metadata)
    get_format(settings.format)
    roots = resolve_roots(paths, settings.selection.output)
    for root in roots:
        check_store_is_contained(root.store)
    notes: list[str] = []
    with suppress(StartError):  # `engine_for` raises it again
        settings = resolve_auto_model(settings, dict.fromkeys(root.store for root in roots), notes.append)
    plan, context = Plan(roots, settings), Context(settings)
    pairs = EditPairs(context.sources)
    pending, existing, failures = Counter[Kind](), 0, []
    for step in plan:
        pairs.add(step if isinstance(step, MediaItem) else step.item)
        if isinstance(step, MediaItem):
            error = _empty_variable_error(step, settings, metadata) or transcripts.find_error(step) or pairs.error(step)
            if error is None:
                pending[step.kind] += 1
            else:
                failures.append(Failed(step, error))
        elif isinstance(step, Failed):
            failures.append(step)
        else:
            existing += 1
    model, shortage, prompt_tokens, audio_tokens = settings.model.model, None, None, 0
    try:
        engine = engine_for(settings, notes.append, context.planned)
        sound = plan_sound(settings, engine.spec)
        if pending["clip"] and sound.message:
            notes.append(sound.message)
        tokens = {
            kind: [
                engine.prompt_tokens(prompt, kind, settings.frames(kind)) + settings.previous_tokens(prompt, kind)
                for prompt in settings.prompts[kind]
            ]
            for kind in sorted(pending)
        }
        prompt_tokens = sum(pending[kind] * sum(counts) for kind, counts in tokens.items())
        audio_tokens = pending["clip"] * len(settings.prompts["clip"]) * sound.tokens
        model = engine.describe()
        for kind in pending:
            check_context_length(context, engine, settings, kind)
        notes += _context_warnings(engine.spec.context_length, settings, pending, tokens)
        notes += filter(None, [describe_references(context, engine)])
    except StartError as error:  # the counts are useful even if the model cannot run
        shortage = str(error)
    selection = settings.selection
    complete = not (plan.num_beyond_limit or selection.shard or selection.include or selection.exclude)
    complete = complete and all(root.only is None for root in roots)
    notes += pairs.notes(complete=complete, recursive=selection.recursive)
    notes += (
        f"{store}: no caption can be written there: choose another folder with --output"
        for store in dict.fromkeys(root.store for root in roots)
        if pending and not may_write(store)
    )
    if (unsearched := describe_unsearched(plan.discovery.unsearched)) is not None:
        notes.append(unsearched)
    return DryRunReport(
        pending=pending,
        frames=sum(n * settings.frames(kind) for kind, n in pending.items()),
        prompt_tokens=prompt_tokens,
        audio_tokens=audio_tokens,
        existing=existing,
        failures=failures,
        ignored=plan.ignored,
        model=model,
        shortage=shortage,
        notes=tuple(notes),
        why_empty=plan.why_empty,
    )


def _context_warnings(
    context: int, settings: Settings, pending: Counter[Kind], prompt_tokens: Mapping[Kind, Sequence[int]]
) -> Iterator[str]:
    """Yield a warning for each kind of item whose largest prompt may not fit in the context with its answer."""
    for kind, counts in prompt_tokens.items():
        answer = settings.max_new_tokens(kind)
        if (tokens := answer + max(counts)) > context:
            remedy = "use fewer --frames, or give the model" if kind == "clip" else "give the model"
            yield (
                f"{counted(pending[kind], kind)}: up to {tokens:,} tokens with the answer ({answer:,}), but the "
                f"context has {context:,}: {remedy} a larger context"
            )


def _empty_variable_error(item: MediaItem, settings: Settings, metadata: MetadataTable) -> str | None:
    """Why a variable in the prompts of this file would be empty, or None."""
    if not metadata.used_variables:
        return None
    existing = existing_caption(item, metadata)
    values = text_values(item, trigger=settings.prompting.trigger, existing=existing, metadata=metadata.lookup(item))
    name = find_empty_variable(templates(settings, item.kind), values)
    return None if name is None else metadata.explain_empty_variable(name, item)
