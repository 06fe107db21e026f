"""A campaign of faults against the real command line: `scripts/torture`. docs/reliability.md holds what came of it.

trial.py     a folder whose right captions are known, runs over it, and the judge
endings.py   killed, stopped and interrupted at random moments
power.py     power that fails: what was not flushed is dropped, from the system calls of a real run
places.py    disks and folders that fail, files that change under the reader
names.py     names and kinds of files that nobody expects
company.py   two runs at once, clocks that jump, journals that are not what they were
everything.py  all of it in one run
"""

from . import company, endings, everything, names, places, power
from .trial import CASES

__all__ = ["CASES", "company", "endings", "everything", "names", "places", "power"]
