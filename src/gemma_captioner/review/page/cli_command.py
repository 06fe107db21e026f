"""Runs a command of the command line on the folder, for `export` and `check` of the page."""

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tab import ReviewTab


def command_words(tab: "ReviewTab", name: str, *arguments: str) -> list[str]:
    """The command for the files and captions that the page shows."""
    root, selection = tab.review_state.library.root, tab.review_state.settings.selection
    words = [name, *arguments, *(["--recursive"] if selection.recursive else []), "--name", selection.name]
    words += [word for glob in selection.exclude for word in ("--exclude", glob)]
    if root.captions != root.folder:
        words += ["--captions", str(root.captions)]
    return [*words, "--", str(root.folder)]


async def run_command(words: list[str]) -> str:
    """Run a command and return its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gemma_captioner", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output.decode("utf-8", "replace").strip()
