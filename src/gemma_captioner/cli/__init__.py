"""The command line: argv -> Settings -> run -> exit code. The only package that prints, held by a test.

shell.py: the application, and its one exit. options.py: settings as options. The commands are beside them:
caption.py is the one that matters.

Exit codes: 0 everything captioned or skipped; 1 the run could not start, or died; 2 usage; 3 finished, some items
failed; 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from . import caption, check, compare, dataset, export, first_steps, review
from .shell import main

__all__ = ["caption", "check", "compare", "dataset", "export", "first_steps", "main", "review"]
