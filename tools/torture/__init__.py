"""Fault injection against the real command line: `scripts/torture`. docs/reliability.md has the results.

trial.py       a folder with known correct captions, runs over it, and the evaluation
endings.py     runs that are killed, stopped and interrupted at random moments
cluster.py     cluster runs whose actors and driver are killed
power.py       power failures: a replay of the system calls of a real run loses what was not synced
places.py      disks and folders that fail, files that change while they are read
names.py       unusual file names and file types
company.py     concurrent runs, clocks that jump, damaged journals
everything.py  all of this in one run
"""

from . import cluster, company, endings, everything, names, places, power
from .trial import CASES

__all__ = ["CASES", "cluster", "company", "endings", "everything", "names", "places", "power"]
