"""Which requests form a batch: counted, without a model."""

from collections.abc import Sequence
from random import Random

import pytest

from gemma_captioner.engines.local.batching import (
    MAX_PADDING,
    MAX_PASSES,
    BatchLimits,
    column_bucket,
    next_batch,
    row_bucket,
)

IMAGE, CLIP, NEW_TOKENS = (270, 300), (3100, 3130), 128  # prompt tokens of Gemma 3, with varying prompts
CUDA = BatchLimits(256, 61 * 3300, constant_shapes=True)  # gemma-3-4b on 80 GB
CPU = BatchLimits(16, None, constant_shapes=False)


def batches_of(lengths: Sequence[int], limits: BatchLimits) -> list[list[int]]:
    """Return the prompt lengths of each batch, as a session forms them: two batches wait at the most."""
    left, waiting, passes, formed = list(lengths), [], 0, []
    while left or waiting:
        while left and len(waiting) < 2 * limits.rows:
            waiting.append(left.pop(0))
        chosen = next_batch(waiting, limits, new_tokens=NEW_TOKENS, must_have_oldest=passes >= MAX_PASSES)
        passes = 0 if 0 in chosen else passes + 1
        assert passes <= MAX_PASSES
        formed.append([waiting[i] for i in chosen])
        waiting = [length for i, length in enumerate(waiting) if i not in set(chosen)]
    return formed


def efficiency(batches: list[list[int]], limits: BatchLimits) -> float:
    padded = 0
    for batch in batches:
        rows, columns = limits.shape(len(batch), max(batch))
        assert len(batch) == 1 or rows * columns <= MAX_PADDING * sum(batch)
        assert limits.tokens is None or len(batch) == 1 or rows * (columns + NEW_TOKENS) <= limits.tokens
        padded += rows * columns
    return sum(map(sum, batches)) / padded


@pytest.mark.parametrize("limits", [CUDA, CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize(("images", "clips"), [(127, 1), (500, 500), (0, 500), (1000, 0)])
def test_a_mixed_folder_is_nearly_as_efficient_as_two_runs(limits, images, clips):
    rng = Random(0)
    lengths = [rng.randint(*IMAGE) for _ in range(images)], [rng.randint(*CLIP) for _ in range(clips)]
    separate = [batch for group in lengths if group for batch in batches_of(group, limits)]
    mixed = batches_of(rng.sample([*lengths[0], *lengths[1]], images + clips), limits)
    assert sorted(map(len, mixed)) and sum(map(len, mixed)) == images + clips
    assert efficiency(mixed, limits) >= 0.8 * efficiency(separate, limits)
    assert len(mixed) <= 1.25 * len(separate) + 1  # nor does it need many more batches
    for batch in mixed:
        assert min(batch) > IMAGE[1] or max(batch) <= IMAGE[1]


@pytest.mark.parametrize("limits", [CUDA, CPU], ids=["cuda", "cpu"])
def test_prompts_of_any_length_pad_little(limits):
    rng = Random(1)
    lengths = [rng.randint(20, 3200) for _ in range(400)]
    batches = batches_of(lengths, limits)
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    assert efficiency(batches, limits) > 1 / MAX_PADDING


def test_the_oldest_goes_first_among_equals_and_waits_for_two_batches_at_most():
    assert 0 in next_batch([40] * 64, BatchLimits(4, None, False), new_tokens=8)
    lengths = [3000, *[300] * 8]
    limits = BatchLimits(4, None, constant_shapes=False)
    assert next_batch(lengths, limits, new_tokens=8) != [0]
    assert next_batch(lengths, limits, new_tokens=8, must_have_oldest=True) == [0]


def test_buckets_are_few_and_close():
    for size, most in ((row_bucket, 1.125), (column_bucket, 1.0625)):
        buckets = {size(n) for n in range(1, 4097)}
        assert all(n <= size(n) <= max(most * n, n + 7) for n in range(1, 4097))
        assert len(buckets) < 100 and {size(n) for n in buckets} == buckets
    assert all(column_bucket(n) % 8 == 0 for n in range(1, 4097))
