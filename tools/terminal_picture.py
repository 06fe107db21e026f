"""Draws what a command shows in a terminal as an SVG, for the README and the documents.

python tools/terminal_picture.py docs/demo.svg gemma-captioner demo samples
python tools/terminal_picture.py --live 20 docs/progress.svg gemma-captioner caption photos/
"""

import fcntl
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
import time
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 40

# Rich's frame without links to web fonts.
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
  line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def output_of(command: list[str]) -> Text:
    """What the command prints on stdout."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment)
    return Text.from_ansi(done.stdout)


def recording_of(command: list[str], seconds: float) -> Text:
    """The screen of a terminal after so many seconds of the command, and at its end."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    started, during = time.monotonic(), None
    while data := _read(terminal):
        if during is None and time.monotonic() - started > seconds:
            during = _drawn(screen)
        stream.feed(data)
    os.waitpid(process, 0)
    return Text("\n").join([during or Text(), Text("...", style="dim"), _drawn(screen)])


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the command has ended
        return b""


def _drawn(screen: pyte.Screen) -> Text:
    """The lines of the screen that hold text, in their colors."""
    lines = []
    for row in range(screen.lines):
        chars = [screen.buffer[row][column] for column in range(screen.columns)]
        runs = groupby(chars, key=lambda char: (char.bold, char.fg))
        line = Text.assemble(*(("".join(c.data for c in run), _style(*key)) for key, run in runs))
        line.rstrip()
        if line:
            lines.append(line)
    return Text("\n").join(lines)


def _style(bold: bool, color: str) -> str:
    """# True, "brown" -> bold yellow"""
    color = {"default": "", "brown": "yellow"}.get(
        color, f"#{color}" if len(color) == 6 and color != "yellow" else color
    )
    return " ".join(filter(None, ["bold" * bold, color]))


def main() -> None:
    words, seconds = sys.argv[1:], 0.0
    if words[0] == "--live":
        seconds, words = float(words[1]), words[2:]
    target, command = Path(words[0]), words[1:]
    shown = recording_of(command, seconds) if seconds else output_of(command)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS if seconds else 100, file=nowhere, force_terminal=True)
        console.print(Text.assemble(("$ ", "bold green"), shlex.join(command)))
        console.print(shown)
        target.write_text(console.export_svg(title="gemma-captioner", code_format=FRAME), encoding="utf-8")


if __name__ == "__main__":
    main()
