"""How tokens are chosen and when an answer ends, row by row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...types import FinishReason


class Sampler:
    """Samples the rows that want it and leaves the others greedy.

    The Gumbel-max trick: argmax(logits / T + Gumbel noise) is a draw from softmax(logits / T); minus the logarithm of
    an exponential variable is such noise. Each row has its own generator, so that what is drawn for an item does not
    depend on what it was batched with.
    """

    def __init__(self, temperatures: Sequence[float], seeds: Sequence[int], device: torch.device) -> None:
        self._rows = [
            (row, temperature, torch.Generator(device).manual_seed(seed))
            for row, (temperature, seed) in enumerate(zip(temperatures, seeds, strict=True))
            if temperature > 0
        ]

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """[rows, vocabulary] -> tokens [rows]."""
        if self._rows:
            logits = logits.float()
        for row, temperature, generator in self._rows:
            exponential = torch.empty_like(logits[row]).exponential_(generator=generator)
            logits[row] = logits[row] / temperature - exponential.log()
        return logits.argmax(-1)


def newline_and_blank_tokens(tokenizer: Any, vocabulary: int) -> tuple[list[bool], list[bool]]:
    """For each token id: whether it holds a line break, and whether it shows nothing.

    A special token is both: base models write `<start_of_image>` between two documents, and no answer shows it.
    """
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    pieces = ["\n" if i in special else tokenizer.decode([i]) for i in range(vocabulary)]
    return ["\n" in piece for piece in pieces], [not piece.strip() for piece in pieces]


class NewlineStoppingCriteria:
    """Ends a row at the first line break after some text: how a base model's completion is told to stop."""

    def __init__(self, newlines: torch.Tensor, blanks: torch.Tensor, rows: int) -> None:
        """newlines, blanks: bool [vocabulary]: tokens that hold a line break, and those that show nothing."""
        self._newlines = newlines
        self._blanks = blanks
        self._has_text = torch.zeros(rows, dtype=torch.bool, device=newlines.device)

    def __call__(self, latest: torch.Tensor) -> torch.Tensor:
        """Tokens [rows] -> which rows end with them."""
        done = self._has_text & self._newlines[latest]
        self._has_text |= ~self._blanks[latest]
        return done


@dataclass(frozen=True, slots=True)
class StopPosition:
    """Where a row's answer ends. `length`: number of tokens that the model said, its end token counted."""

    length: int
    finish_reason: FinishReason


def find_stop(
    tokens: Sequence[int], eos_token_ids: Sequence[int], newlines: set[int], blanks: set[int]
) -> StopPosition:
    """Of one row's new tokens, padding included; `newlines` empty where line breaks do not end an answer.

    # [5, 6, END, PAD], eos_token_ids [END] -> 3, stop      [5, 6, 7] -> 3, length
    # [NEWLINE, 5, NEWLINE, PAD], newlines {NEWLINE} -> 3, stop
    """
    has_text = False
    for i, token in enumerate(tokens):
        if token in eos_token_ids or (has_text and token in newlines):
            return StopPosition(i + 1, "stop")
        has_text = has_text or token not in blanks
    return StopPosition(len(tokens), "length")


def first_line(text: str) -> str:
    """The first line that is not blank. # "\\n A cat.\\nA dog." -> "A cat." """
    return re.split(r"[\n\r]", text.strip(), maxsplit=1)[0].strip()
