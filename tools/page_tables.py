"""Writes the tables of the docs whose data is in the code: python -m tools.page_tables. A test holds them current.

`<!-- table: NAME -->` in a page begins the table NAME, `<!-- end -->` ends it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

from gemma_captioner.captions.flags import REJECTION_REASONS
from gemma_captioner.check.media.rules import MEDIA_RULES
from gemma_captioner.check.pairs import PAIR_RULES
from gemma_captioner.check.rules import GENERAL_RULES, Rule
from gemma_captioner.check.trainer_rules import TRAINER_RULES
from gemma_captioner.check.trigger.rules import TRIGGER_RULES
from gemma_captioner.config.presets import presets
from gemma_captioner.config.selection import FLAGS
from gemma_captioner.config.targets import get_target, models, token_limit, trainers
from gemma_captioner.dataset.discover import EXTENSIONS
from gemma_captioner.export.formats import EXPORTS, ExportFormat
from gemma_captioner.prompts.variables import MAY_BE_EMPTY, VARIABLES
from gemma_captioner.review import terms
from gemma_captioner.review.page.keys import SHORTCUTS, SHOWN
from gemma_captioner.types import Kind

from .targets_page import target_tables

DOCS = Path(__file__).parents[1] / "docs"


def _table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table. head: "code | remedy"."""
    lines = [f"| {head} |", f"|{'---|' * (head.count('|') + 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _flags() -> str:
    rejected = ((flag, reason.partition(":")[0], "retried, then fails") for flag, reason in REJECTION_REASONS.items())
    stored = ((flag, meaning, "stored with the flag") for flag, meaning in FLAGS.items())
    return _table(
        "flag | meaning | what happens to the caption", ((f"`{f}`", *cells) for f, *cells in (*rejected, *stored))
    )


def _rules(rules: Mapping[str, Rule]) -> str:
    def row(code: str, rule: Rule) -> tuple[str, ...]:
        severity = "; ".join([rule.severity, *(f"{other} for {name}" for name, other in rule.severity_for.items())])
        names = ", ".join(getattr(rule, "trainers", ()))
        description = f"{names}: {rule.description}" if names else rule.description
        return f"`{code}`", severity, description, rule.remedy + " (`--fix`)" * rule.fixed

    return _table("code | severity | finding | what to do", (row(*entry) for entry in rules.items()))


def _variables() -> str:
    rows = ((f"`{{{name}}}`", meaning, "yes" * (name in MAY_BE_EMPTY)) for name, meaning in VARIABLES.items())
    return _table("variable | value | may be empty", rows)


def _presets() -> str:
    def row(name: str, target: str) -> tuple[str, ...]:
        limit, quoted = token_limit(target), models()[target].get("quoted")
        reads = f"{limit.max_tokens} tokens" if limit else "no limit"
        return f"`{name}`", presets()[name]["description"], reads + f"; {quoted} reads what is in quotes" * bool(quoted)

    targets = {name: preset["settings"].get("target") for name, preset in presets().items()}
    rows = (row(name, target) for name, target in targets.items() if target)
    return _table("`--preset` | for | text encoder reads", rows)


def _exports() -> str:
    only = {"image": "images", "clip": "clips", None: ""}

    def row(name: str, export: ExportFormat) -> tuple[str, ...]:
        place = export.default_path(Path("dataset"))
        written = f"`{place.as_posix()}`" if place else "nothing: it reads the `.txt`"
        suffixes = ", ".join(f"`{suffix}`" for suffix in export.suffixes)
        return f"`{name}`", written, suffixes, only[export.kind], export.several

    head = "`--for` | writes | or, by the suffix of `--output` | only | several captions of a file"
    return _table(head, (row(*entry) for entry in EXPORTS.items()))


def _extensions(kind: Kind) -> str:
    return ", ".join(extension for extension, its_kind in EXTENSIONS.items() if its_kind == kind)


def _sources() -> str:
    return _table("trainer | source", ((name, get_target(name).trainer_source) for name in trainers()))


def _keys() -> str:
    cells = [(" ".join(f"`{SHOWN.get(name, name)}`" for name in key.keys), key.help) for key in SHORTCUTS]
    half = (len(cells) + 1) // 2  # two keys in a row: the second half is beside the first
    rows = zip_longest(cells[:half], cells[half:], fillvalue=("", ""))
    return _table("key | action | key | action", ((*left, *right) for left, right in rows))


def _terms() -> str:
    rows = (*terms.PLAIN_TERMS, *((key.example, key.help) for key in terms.FILTERS.values()))
    return _table("term | finds", ((f"`{example}`", finds) for example, finds in rows))


TABLES: Mapping[str, Callable[[], str]] = {
    "flags": _flags,
    "rules": lambda: _rules(GENERAL_RULES),
    "media rules": lambda: _rules(MEDIA_RULES),
    "edit rules": lambda: _rules(PAIR_RULES),
    "trigger rules": lambda: _rules(TRIGGER_RULES),
    "trainer rules": lambda: _rules(TRAINER_RULES),
    "trainer sources": _sources,
    "variables": _variables,
    "presets": _presets,
    "exports": _exports,
    "image extensions": lambda: _extensions("image"),
    "clip extensions": lambda: _extensions("clip"),
    "targets": target_tables,
    "keys": _keys,
    "filter terms": _terms,
}
_PLACE = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return the page with its tables written anew."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]().strip()}\n\n{place[3]}", text)


if __name__ == "__main__":
    for page in DOCS.glob("*.md"):
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
