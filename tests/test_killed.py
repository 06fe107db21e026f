"""`kill -9` at random moments: nothing lost, nothing partial. The long form is tools/kill_runs.py."""

import pytest

from kill_runs import campaign


@pytest.mark.long
def test_killed_runs_end_as_an_undisturbed_one():
    ended = campaign(files=40, kills=3, seed=5)
    assert (ended.lost, ended.different, ended.partial, ended.exit_code) == (0, 0, 0, 0), ended
    assert 0 <= ended.repeated <= ended.kills, ended
