"""Samples tokens and finds the end of each answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...types import FinishReason
from .processor import Tokenizer


class Sampler:
    """Samples rows with a temperature above 0; other rows are greedy.

    This uses the Gumbel-max trick: argmax(logits / T + Gumbel noise) is a sample of softmax(logits / T), and the
    negative logarithm of an exponential variable is Gumbel noise. Each row has its own generator, so that an item's
    sample does not depend on the rest of its batch.
    """

    def __init__(self, temperatures: Sequence[float], seeds: Sequence[int], device: torch.device) -> None:
        self._rows = [
            (row, temperature, torch.Generator(device).manual_seed(seed))
            for row, (temperature, seed) in enumerate(zip(temperatures, seeds, strict=True))
            if temperature > 0
        ]

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Map logits [rows, vocabulary] to tokens [rows]."""
        if self._rows:
            logits = logits.float()
        for row, temperature, generator in self._rows:
            exponential = torch.empty_like(logits[row]).exponential_(generator=generator)
            logits[row] = logits[row] / temperature - exponential.log()
        return logits.argmax(-1)


def newline_and_blank_tokens(tokenizer: Tokenizer, vocabulary: int) -> tuple[list[bool], list[bool]]:
    """Return for each token id whether it contains a line break, and whether it is blank.

    A special token counts as both: base models write `<start_of_image>` between two documents.
    """
    special = tokenizer.special_ids
    pieces = ["\n" if i in special else piece for i, piece in enumerate(tokenizer.pieces(vocabulary))]
    return ["\n" in piece for piece in pieces], [not piece.strip() for piece in pieces]


class NewlineStoppingCriteria:
    """Ends a row at the first line break after some text. Base models need this."""

    def __init__(self, newlines: torch.Tensor, blanks: torch.Tensor, rows: int) -> None:
        """newlines, blanks: bool [vocabulary], tokens with a line break and blank tokens."""
        self._newlines = newlines
        self._blanks = blanks
        self._has_text = torch.zeros(rows, dtype=torch.bool, device=newlines.device)

    def __call__(self, latest: torch.Tensor) -> torch.Tensor:
        """Map tokens [rows] to bool [rows]: the rows that end with them."""
        done = self._has_text & self._newlines[latest]
        self._has_text |= ~self._blanks[latest]
        return done


@dataclass(frozen=True, slots=True)
class StopPosition:
    """The end of a row's answer. `length` counts its tokens, the end token included."""

    length: int
    finish_reason: FinishReason


def find_stop(
    tokens: Sequence[int], eos_token_ids: Sequence[int], newlines: set[int], blanks: set[int]
) -> StopPosition:
    """Find the end of a row's new tokens. An empty `newlines` means that line breaks do not end an answer.

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
    """Return the first line that is not blank. # "\\n A cat.\\nA dog." -> "A cat." """
    return re.split(r"[\n\r]", text.strip(), maxsplit=1)[0].strip()
