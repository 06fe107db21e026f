"""Draws the output of a command as an SVG, for the README.

python tools/terminal_picture.py docs/demo.svg gemma-captioner demo samples
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

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


def main() -> None:
    target, command = Path(sys.argv[1]), sys.argv[2:]
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment).stdout
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=100, file=nowhere, force_terminal=True)
        console.print(Text.assemble(("$ ", "bold green"), shlex.join(command)))
        console.print(Text.from_ansi(shown))
        target.write_text(console.export_svg(title="gemma-captioner", code_format=FRAME), encoding="utf-8")


if __name__ == "__main__":
    main()
