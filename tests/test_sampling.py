"""The arithmetic of moments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_captioner.config.settings import Settings
from gemma_captioner.errors import UsageError
from gemma_captioner.media.sampling import (
    Timeline,
    frames_at_times,
    parse_span,
    sample_indexes,
    sample_times,
    select_frames,
)
from gemma_captioner.media.settings import DecodeSettings

counts = st.integers(1, 200)
durations = st.floats(0.01, 36000)


@given(durations, counts, st.sampled_from(["midpoints", "ends"]))
def test_times_are_rising_inside_and_as_many_as_asked(duration_s, n, rule):
    times = sample_times(duration_s, n, rule)
    assert len(times) == n
    assert times == sorted(set(times))
    assert times[0] >= 0 and times[-1] <= duration_s * (1 + 1e-9)
    if rule == "midpoints":
        assert times[0] > 0 and times[-1] < duration_s


@given(st.integers(1, 100_000), counts)
def test_indexes_follow_the_originals_rule(total, n):
    indexes = sample_indexes(total, n)
    assert len(indexes) == min(n, total)
    assert indexes == sorted(set(indexes))
    assert indexes[0] >= 0 and indexes[-1] < total
    if total > n:
        assert indexes == [int(i * total / n) for i in range(n)]


def test_examples():
    assert sample_times(12, 3, "midpoints") == [2, 6, 10]
    assert sample_times(12, 3, "ends") == [0, 6, 12]
    assert sample_times(12, 1, "ends") == [0]
    assert sample_indexes(10, 4) == [0, 2, 5, 7]
    assert frames_at_times([0, 0.5, 2], [0.4, 0.6, 1.9]) == [0, 1]


@given(st.lists(st.floats(0, 100), min_size=1, unique=True), st.lists(st.floats(0, 100), min_size=1))
def test_covering_gives_the_last_frame_that_began(frames, wanted):
    frames.sort()
    for t in wanted:
        [index] = frames_at_times(frames, [t])
        assert frames[index] <= t or index == 0
        assert index == len(frames) - 1 or t < frames[index + 1]


def timelines():
    gaps = st.lists(st.floats(0.01, 2), min_size=1, max_size=60)
    return st.tuples(st.floats(0, 100), gaps).map(_timeline)


def _timeline(drawn) -> Timeline:
    start, gaps = drawn
    times = [start]
    for gap in gaps[:-1]:
        times.append(times[-1] + gap)
    return Timeline(times, end=times[-1] + gaps[-1])


spans = st.one_of(
    st.just("whole"),
    st.floats(0.1, 90).map(lambda s: f"head:{s:.3f}"),
    st.floats(0.1, 90).map(lambda s: f"middle:{s:.3f}"),
)


@given(timelines(), counts, st.sampled_from(["midpoints", "ends", "index"]), spans, st.none() | st.floats(0.1, 60))
def test_chosen_frames_are_sorted_unique_and_inside_the_span(timeline, n, rule, span, fps):
    indexes, missing = select_frames(timeline, DecodeSettings(frames=n, sampling=rule, span=span, fps=fps))
    begin, until = parse_span(span, timeline)
    assert missing == 0
    assert indexes == sorted(set(indexes)) and 1 <= len(indexes) <= n
    for i in indexes:
        ends = timeline.times[i + 1] if i + 1 < len(timeline.times) else timeline.end
        assert ends >= timeline.start + begin - 0.01 and timeline.times[i] <= timeline.start + until + 0.01


@given(timelines(), counts, st.sampled_from(["midpoints", "ends", "index"]))
def test_fewer_frames_than_asked_are_all_shown(timeline, extra, rule):
    indexes, _ = select_frames(timeline, DecodeSettings(frames=len(timeline.times) + extra, sampling=rule))
    assert indexes == list(range(len(timeline.times)))


@given(st.integers(1, 60), st.sampled_from(["midpoints", "ends", "index"]))
def test_an_even_clip_gives_exactly_as_many_as_asked(n, rule):
    timeline = Timeline([i / 24 for i in range(240)], end=10)
    assert len(select_frames(timeline, DecodeSettings(frames=n, sampling=rule))[0]) == n


def test_span_examples():
    ten = Timeline([i / 24 for i in range(240)], end=10)
    assert parse_span("whole", ten) == (0, 10)
    assert parse_span("head:4", ten) == (0, 4)
    assert parse_span("middle:4", ten) == (3, 7)
    assert parse_span("2-6.5", ten) == (2, 6.5)
    assert parse_span("head:60", ten) == (0, 10)
    assert parse_span("head:48f", ten) == (0, 2)
    assert parse_span("middle:48f@16", ten) == (3.5, 6.5)
    assert parse_span("head:48f@25", ten) == (0, 2)
    assert parse_span("head:48f@30", ten) == (0, 10)
    assert parse_span("head:2,4,60", ten) == (0, 4)
    assert parse_span("head:300f,400f", ten) == (0, 10)


@pytest.mark.parametrize(
    ("target", "frames", "span"),
    [
        ("musubi:wan", 81, "head:81f"),
        ("musubi:hunyuan", 97, "head:97f"),
        ("musubi", 81, "head:81f"),
        ("diffusion-pipe:wan", 81, "head:5.0625"),
        ("diffusion-pipe:hunyuan", (33, 97), "head:1.375,4.04167"),
        ("diffusion-pipe:ltx", 25, "head:1"),
        ("mochi", 30, "head:1"),
        ("ltx", 49, "head:49f"),
        ("ltx:video", 49, "head:49f"),
        ("sd-scripts:sdxl", 81, "whole"),
        ("musubi:wan", None, "whole"),
    ],
)
def test_trainers_decide_the_span_unless_it_is_given(target, frames, span):
    flat = {"for": target, "train_frames": frames}
    assert Settings.from_dict(flat).sampling.span == span
    assert Settings.from_dict(flat, {"span": "1-2"}).sampling.span == "1-2"


def test_unknown_trainers_and_models_list_the_known():
    with pytest.raises(UsageError, match=r"Available: musubi, .*sd-scripts"):
        Settings.from_dict({"for": "kohya"})
    for target in ("musubi:wna", "sd-scripts:nope"):
        with pytest.raises(UsageError, match=r"Available: wan, .*sdxl"):
            Settings.from_dict({"for": target})
    with pytest.raises(UsageError, match="diffusion-pipe:wan"):
        Settings.from_dict({"for": "diffusion-pipe:flux", "train_frames": 81})
