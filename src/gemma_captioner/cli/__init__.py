"""The command line: argv -> Settings -> run -> exit code. The only package that prints, held by a test.

shell.py holds the application and its only exit, help.py what --help shows, options.py how settings become options.
Each command has a file of its own; caption.py is the main one.

Exit codes: 0 everything captioned or skipped; 1 the run could not start, or stopped on an error; 2 usage; 3
finished, some items failed; 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from . import caption, check, compare, dataset, export, first_steps, review, targets
from .shell import main

__all__ = ["caption", "check", "compare", "dataset", "export", "first_steps", "main", "review", "targets"]
