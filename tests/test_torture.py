"""A short campaign of faults, each case against the real command line; the long one is `scripts/torture`."""

import os
from random import Random

import pytest

from tools.torture import CASES
from tools.torture.trial import scratch_folder

# These take half a minute each.
SLOW = {
    "a folder that loses its permission",
    "a folder that may not be written",
    "ended at random, local model",
    "ended at random, cluster",
    "ended at random, scripted engine",
    "ended at random, server",
    "journals that are not what they were",
    "clocks that jump",
    "shards side by side, killed",
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.prove if n in SLOW else pytest.mark.long) for n in sorted(CASES)]
)
def test_no_fault_costs_anything(name):
    with scratch_folder() as base:
        ended = CASES[name](base, Random(f"1 {name}"), True)
    if isinstance(ended, str):
        assert os.geteuid() != 0, ended  # every case runs as root
        pytest.skip(ended)
    assert ended.faults and ended.is_clean, ended
