"""The tables of docs/targets.md: see page_tables.py."""

from itertools import groupby

from gemma_captioner.cli.targets import clip_cells, rate_of, tokens_of
from gemma_captioner.config.targets import Target, all_targets, models


def target_tables() -> str:
    parts = ["\n| model | is | text encoder | caption format |\n|---|---|---|---|\n"]
    for name, model in models().items():
        names = ", ".join(f"`{n}`" for n in (name, *model.get("aliases", ())))
        quoted = f", {model['quoted']} for what is in quotes" if "quoted" in model else ""
        parts.append(f"| {names} | {model['title']} | {model['encoder']}{quoted} | {model.get('format', 'prose')} |\n")
    for trainer, rows in groupby(all_targets(), key=lambda row: row.trainer):
        parts.append(_section(trainer, list(rows)))
    return "".join(parts) + "\n"


def _section(trainer: str, rows: list[Target]) -> str:
    first = rows[0]
    facts = [f"Captions: {first.captions}."]
    if first.short:
        facts.append(f"A clip that is too short: {first.short}.")
    if first.modes:
        modes = ", ".join(f"`{mode}` ({changes['keep']})" for mode, changes in first.modes.items())
        facts.append(f"`--train-mode`: {modes}.")
    if sound := [row for row in rows if row.sound]:
        facts.append(f"Trained on sound: {', '.join(f'`{row.model}` ({row.audio_rate:,} Hz)' for row in sound)}.")
        without = dict.fromkeys(row.without_sound for row in sound)
        for text in without:
            of = f" (`{'`, `'.join(row.model for row in sound if row.without_sound == text)}`)" * (len(without) > 1)
            facts.append(f"A clip without sound{of}: {text}.")
    if first.auxiliary:
        facts.append(f"Not captioned: {', '.join(f'`{glob}`' for glob in first.auxiliary)}.")
    lines = [f"\n### {trainer}\nRead at {first.trainer_source}. {' '.join(facts)}\n"]
    if first.model:
        lines.append("\n| model | tokens | rate | keeps | frames | sides | read in |\n|---|---|---|---|---|---|---|\n")
        for row in rows:
            keep, counts, sides = clip_cells(row)
            tokens = tokens_of(row) + (f", {row.reserved} for the template" if row.reserved else "")
            tokens += ", more fails" if row.over == "fails" else ""
            cells = row.model, tokens, rate_of(row), keep, counts, sides, row.source
            lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)
