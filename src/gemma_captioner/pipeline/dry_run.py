"""What a run would do, found out without loading a model: files, frames, tokens, what exists, what collides, memory."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.settings import Settings
from ..dataset.discover import resolve_roots
from ..engines import engine_for
from ..errors import StartError
from ..prompts.examples import read_examples
from ..prompts.metadata import load_metadata
from ..types import Failed, Kind, MediaItem
from .planner import Plan


@dataclass(frozen=True)
class DryRunReport:
    """`frames` and `prompt_tokens` are upper bounds: a short clip may hold fewer frames than were asked for."""

    pending: Counter[Kind]
    frames: int
    prompt_tokens: int | None  # None where the model's description cannot be had
    existing: int
    failures: list[Failed]
    ignored: int
    model: str
    shortage: str | None

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
            "failures": [{"path": str(f.item.path), "error": f.error} for f in self.failures],
        }

    def as_text(self) -> str:
        lines = [
            f"to caption   {self.pending['image']} images, {self.pending['clip']} clips",
            f"at most      {self.frames:,} frames"
            + (f", {self.prompt_tokens:,} prompt tokens" if self.prompt_tokens is not None else ""),
            f"captioned    {self.existing} already",
            f"ignored      {self.ignored} other files",
            f"model        {self.model}" if not self.shortage else f"cannot run   {self.shortage}",
        ]
        lines += [f"would fail   {f.item.path}: {f.error}" for f in self.failures]
        if not (self.files or self.existing or self.failures):
            lines.append("nothing      no images or clips here: --recursive looks into subfolders")
        return "\n".join(lines)


def dry_run(paths: Iterable[Path], settings: Settings) -> DryRunReport:
    """Raises `StartError` and its kin where the paths or the model's description cannot be had."""
    load_metadata(settings)  # what its prompts ask for is known, or told now
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
    try:
        engine = engine_for(settings, examples=read_examples(settings.prompting.examples))
        prompt_tokens = sum(
            n * engine.prompt_tokens(prompt, kind, settings.frames(kind))
            for kind, n in pending.items()
            for prompt in settings.prompts[kind]
        )
        model = engine.describe()
    except StartError as error:  # what was counted is worth knowing all the same
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
    )
