"""The command `targets`: what each trainer keeps of a clip and reads of a caption, for each model."""

from dataclasses import asdict
from itertools import groupby
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from ..config.option_layout import VALUES
from ..config.targets import Target, all_targets, get_target, models, trainers, unlisted_target_note
from ..errors import UsageError
from .help import examples
from .shell import app, err, out, print_json


@app.command(help_epilogue=examples("targets"), usage="Usage: gemma-captioner targets [OPTIONS] [TARGET]")
def targets(
    target: Annotated[
        str | None,
        Parameter(
            help="A trainer, a model or TRAINER:MODEL. [default: all]", completer=lambda _: list(VALUES["for_"]())
        ),
    ] = None,
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json", help="Print one JSON object on stdout.", negative=())] = False,
) -> int:
    """List the trainers and models that `--for` knows: text encoder, token limit, which frames of a clip are kept.

    Each row is taken from the source code of the trainer and names the file.
    """
    found = find_targets(target)
    warn_if_unlisted(target if target and ":" in target else None)
    if json_:
        print_json({"targets": [asdict(row) for row in found]})
    elif target and ":" in target:
        for name, value in describe(found[0]):
            out.print(f"{name:14}  {value}")
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("trainer, model", "encoder", "tokens", "format", "rate", "keeps", "frames", "sides"):
            table.add_column(title)
        for trainer, rows in groupby(found, key=lambda row: row.trainer):
            table.add_row(f"[bold]{trainer}[/]")
            for row in rows:
                cells = row.encoder, tokens_of(row), row.format, rate_of(row), *clip_cells(row)
                table.add_row(f"  {row.model}", *cells)
        out.print(table, markup=True)
    return 0


def find_targets(target: str | None) -> list[Target]:
    """Return the rows of a trainer, of a model or of both. Raises `UsageError` for an unknown one."""
    if target and ":" in target:
        return [get_target(target)]
    known = [row for row in all_targets() if target in (None, row.trainer, row.model, *_aliases(row.model))]
    if not known:
        raise UsageError(
            f"{target}: no such trainer or model. Trainers: {', '.join(trainers())}. Models: {', '.join(models())}"
        )
    return known


def _aliases(model: str) -> list[str]:
    return list(models()[model].get("aliases", ())) if model else []


def warn_if_unlisted(for_: str | None) -> None:
    """Print a note about a combination of trainer and model that the table does not list."""
    if for_ is not None and (known := unlisted_target_note(for_)) is not None:
        err.print(f"note: {known}", style="yellow", soft_wrap=True)


def tokens_of(row: Target) -> str:
    if not row.encoder:
        return ""
    return f"{row.tokens}" if row.tokens else "no limit"


def rate_of(row: Target) -> str:
    """# 16 (resampled)      source (not resampled)      up to 25"""
    if not row.counts and not row.fps:
        return ""
    return {"source": "source", "model": f"{row.fps:g}", "at most": f"up to {row.fps:g}"}[row.rate]


def clip_cells(row: Target) -> tuple[str, str, str]:
    """Which frames of a clip are kept, the valid numbers of frames, the multiple of the sides; "" for image models."""
    if not row.counts and not row.fps:
        return "", "", ""
    return row.keep, row.counts, f"{row.sides}" if row.sides else ""


def describe(row: Target) -> list[tuple[str, str]]:
    """Return (name, text) of each fact of a row."""
    is_clip = bool(row.counts or row.fps)
    reserved = f", {row.reserved} of them for the chat template" if row.reserved else ""
    rates = {
        "source": "not resampled",
        "model": f"resampled to {row.fps:g} frames per second",
        "at most": f"frames dropped to {row.fps:g} per second, none added",
    }
    facts = {
        "target": row.name,
        "model": row.title,
        "text encoder": row.encoder,
        "token limit": f"{tokens_of(row)}{reserved}" + ", a longer caption stops training" * (row.over == "fails"),
        "in quotes": f"{row.quoted} reads only text in double quotes" if row.quoted else "",
        "caption format": row.format,
        "caption files": row.captions,
        "clips": f"{rates[row.rate]}, keeps: {row.keep}" if is_clip else "",
        "other modes": ", ".join(f"{mode} ({changes['keep']})" for mode, changes in row.modes.items()) * is_clip,
        "sound": f"trained on the sound of clips, {row.audio_rate:,} Hz" * row.sound,
        "without sound": row.without_sound * row.sound,
        "frame counts": row.counts,
        "sides": f"multiples of {row.sides}" if row.sides else "",
        "short clips": row.short * is_clip,
        "not captioned": ", ".join(row.auxiliary),
        "read in": "; ".join(filter(None, (row.source, row.trainer_source))),
    }
    return [(name, text) for name, text in facts.items() if text]
