"""Chooses which waiting requests form the next batch. Pure arithmetic: knows neither torch nor requests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

MAX_PADDING = 1.25  # padded prompt tokens of a batch, as a multiple of its real ones
MAX_PASSES = 2  # full batches of requests that may pass over the oldest one


def row_bucket(rows: int) -> int:
    """Round up to eight sizes per power of two. # 9 -> 9, 33 -> 36, 65 -> 72, 129 -> 144"""
    step = 1 << max(0, rows.bit_length() - 4)
    return -(-rows // step) * step


def _smaller_bucket(rows: int) -> int:
    step = 1 << max(0, (rows - 1).bit_length() - 4)
    return (rows - 1) // step * step


def column_bucket(columns: int) -> int:
    """Round up to 16 sizes per power of two, all multiples of 8. # 5 -> 8, 290 -> 304, 3120 -> 3200"""
    step = max(8, 1 << max(0, columns.bit_length() - 5))
    return -(-columns // step) * step


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The largest batch: rows, and padded tokens of prompts and answers (None: no limit)."""

    rows: int
    tokens: int | None
    constant_shapes: bool  # rows and columns come in buckets

    def shape(self, rows: int, longest: int) -> tuple[int, int]:
        """Return the (rows, columns) of a batch's prompt."""
        if not self.constant_shapes:
            return rows, longest
        return min(row_bucket(rows), max(rows, self.rows)), column_bucket(longest)

    def max_rows(self, columns: int) -> int:
        """Return the number of rows of a KV cache for prompts and answers of up to `columns` tokens."""
        return self.rows if self.tokens is None else max(1, min(self.rows, self.tokens // columns))

    def allows(self, rows: int, longest: int, real: int, new_tokens: int) -> bool:
        """Return whether a batch pads little enough and fits. One request alone always does."""
        padded_rows, columns = self.shape(rows, longest)
        fits = self.tokens is None or padded_rows * (columns + new_tokens) <= self.tokens
        return rows == 1 or (rows <= self.rows and fits and padded_rows * columns <= MAX_PADDING * real)

    def fullness(self, rows: int, longest: int, new_tokens: int) -> float:
        """Return the used share of the limit that the batch comes closest to."""
        padded_rows, columns = self.shape(rows, longest)
        used = padded_rows * (columns + new_tokens) / self.tokens if self.tokens else 0.0
        return max(rows / self.rows, used)


def next_batch(
    lengths: Sequence[int], limits: BatchLimits, *, new_tokens: int, must_have_oldest: bool = False
) -> list[int]:
    """Return the indices of the requests that form the fullest batch, the longest first.

    Requests of similar length go together, so an image never takes part in a batch of clips. Of equally full batches,
    one with the oldest request goes first.

    Args:
        lengths: The prompt lengths of the waiting requests, the oldest first. At least one.
        new_tokens: The maximum number of new tokens of any of them.
        must_have_oldest: Whether the oldest request must be among them.
    """
    by_length = sorted(range(len(lengths)), key=lambda i: lengths[i])
    sums = [0, *accumulate(lengths[i] for i in by_length)]
    oldest = by_length.index(0)
    unrounded = replace(limits, constant_shapes=False)
    best, chosen, first = (-1.0, False, 0), (oldest, oldest + 1), 0
    for end in range(1, len(by_length) + 1):
        longest = lengths[by_length[end - 1]]
        while not unrounded.allows(end - first, longest, sums[end] - sums[first], new_tokens):
            first += 1  # never goes back: the longer the longest, the fewer short requests fit beside it
        start = first
        while not limits.allows(end - start, longest, sums[end] - sums[start], new_tokens):
            start = end - _smaller_bucket(end - start)
        has_oldest = start <= oldest < end
        score = (limits.fullness(end - start, longest, new_tokens), has_oldest, -end)
        if (has_oldest or not must_have_oldest) and score > best:
            best, chosen = score, (start, end)
    return [by_length[i] for i in reversed(range(*chosen))]
