"""A short campaign of faults, each case against the real command line; the long one is `scripts/torture`."""

import os
from random import Random

import pytest

from torture import CASES
from torture.trial import ground


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("cluster")])  # test_cluster.py has it
def test_no_fault_costs_anything(name):
    with ground() as base:
        ended = CASES[name](base, Random(f"1 {name}"), True)
    if isinstance(ended, str):
        assert os.geteuid() != 0, ended  # root has all that they want
        pytest.skip(ended)
    assert ended.faults and ended.is_clean, ended
