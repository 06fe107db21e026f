"""The arithmetic of moments."""

from hypothesis import given
from hypothesis import strategies as st

from gemma_captioner.media.sampling import covering, wanted_indexes, wanted_times

counts = st.integers(1, 200)
durations = st.floats(0.01, 36000)


@given(durations, counts, st.sampled_from(["midpoints", "ends"]))
def test_times_are_rising_inside_and_as_many_as_asked(duration_s, n, rule):
    times = wanted_times(duration_s, n, rule)
    assert len(times) == n
    assert times == sorted(set(times))
    assert times[0] >= 0 and times[-1] <= duration_s * (1 + 1e-9)
    if rule == "midpoints":
        assert times[0] > 0 and times[-1] < duration_s


@given(st.integers(1, 100_000), counts)
def test_indexes_follow_the_originals_rule(total, n):
    indexes = wanted_indexes(total, n)
    assert len(indexes) == min(n, total)
    assert indexes == sorted(set(indexes))
    assert indexes[0] >= 0 and indexes[-1] < total
    if total > n:
        assert indexes == [int(i * total / n) for i in range(n)]


def test_examples():
    assert wanted_times(12, 3, "midpoints") == [2, 6, 10]
    assert wanted_times(12, 3, "ends") == [0, 6, 12]
    assert wanted_times(12, 1, "ends") == [0]
    assert wanted_indexes(10, 4) == [0, 2, 5, 7]
    assert covering([0, 0.5, 2], [0.4, 0.6, 1.9]) == [0, 1]


@given(st.lists(st.floats(0, 100), min_size=1, unique=True), st.lists(st.floats(0, 100), min_size=1))
def test_covering_gives_the_last_frame_that_began(frames, wanted):
    frames.sort()
    for t in wanted:
        [index] = covering(frames, [t])
        assert frames[index] <= t or index == 0
        assert index == len(frames) - 1 or t < frames[index + 1]
