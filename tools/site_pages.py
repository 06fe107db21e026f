"""Generates pages of the documentation site: commands from `--help`, presets, CONTRIBUTING and CHANGELOG."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cyclopts import App

import gemma_captioner.cli  # noqa: F401
from gemma_captioner.cli.shell import app
from gemma_captioner.config.presets import preset_text, presets

_ROOT = Path(__file__).parents[1]


def commands(of: App = app, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command: (), ("caption",), ("presets", "show"), ..."""
    yield words
    for name in of:
        if not name.startswith("-"):
            yield from commands(of[name], (*words, name))


def commands_page() -> str:
    """Return the `--help` of every command as a page."""
    text = app.generate_docs(heading_level=2, flatten_commands=True).partition("**Commands**")[2]
    text = re.sub(r"#+ Table of Contents\n\n(?:\s*- .*\n)+", "", text)
    return f"# Commands\n\nThe output of `gemma-captioner COMMAND --help`.\n\n**Commands**{text}"


def presets_page() -> str:
    shown = [f"## {name}\n\n```toml\n{preset_text(name).strip()}\n```\n" for name in presets()]
    intro = "The output of `gemma-captioner presets show NAME`, to copy. See [Prompts](../prompts.md)."
    return f"# Presets\n\n{intro}\n\n" + "\n".join(shown)


def _repository_page(name: str) -> Callable[[], str]:
    return lambda: (_ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


GENERATED: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/presets.md": presets_page,
    "contributing.md": _repository_page("CONTRIBUTING.md"),
    "changelog.md": _repository_page("CHANGELOG.md"),
}
