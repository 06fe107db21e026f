"""Samples tokens and finds the end of each answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from ...types import FinishReason
from .processor import Processor


class Sampler:
    """Samples rows with a temperature above 0; other rows are greedy.

    This uses the Gumbel-max trick: argmax(logits / T + Gumbel noise) is a sample of softmax(logits / T), and the
    negative logarithm of an exponential variable is Gumbel noise. Each row has its own generator, so that an item's
    sample does not depend on the rows beside it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rows: dict[int, tuple[float, torch.Generator]] = {}  # those with a temperature

    def set_row(self, row: int, temperature: float, seed: int) -> None:
        self._rows.pop(row, None)
        if temperature > 0:
            self._rows[row] = (temperature, torch.Generator(self._device).manual_seed(seed))

    def move(self, source: int, target: int) -> None:
        """Let row `target` go on as row `source`, which becomes greedy."""
        self._rows.pop(target, None)
        if source in self._rows:
            self._rows[target] = self._rows.pop(source)

    def __call__(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Map the logits of rows, [n, vocabulary], to tokens [n]."""
        sampled = [(i, *self._rows[row]) for i, row in enumerate(rows) if row in self._rows]
        if sampled:
            logits = logits.float()
        for i, temperature, generator in sampled:
            exponential = torch.empty_like(logits[i]).exponential_(generator=generator)
            logits[i] = logits[i] / temperature - exponential.log()
        return logits.argmax(-1)


@dataclass(frozen=True, slots=True)
class StopTokens:
    """The token ids that end an answer, or that may.

    Attributes:
        eos: Those that end it.
        newlines: Those with a line break, which ends an answer of a base model after some text. Else empty.
        blanks: Those without text.
    """

    eos: frozenset[int]
    newlines: frozenset[int] = frozenset()
    blanks: frozenset[int] = frozenset()

    @classmethod
    def of(cls, model: Any, processor: Processor) -> Self:
        """Return those of a checkpoint. It is a base model if it has no chat template."""
        tokenizer, ends = processor.tokenizer, model.generation_config.eos_token_id or []
        turns = {tokenizer.token_id(token) for token in ("<end_of_turn>", "<turn|>")} - {None, tokenizer.unk_token_id}
        eos = frozenset({tokenizer.eos_token_id, *([ends] if isinstance(ends, int) else ends), *turns})
        if processor.chat_template is not None:
            return cls(eos)
        # A special token has a line break and no text: base models write `<start_of_image>` between two documents.
        vocabulary, special = model.config.get_text_config().vocab_size, tokenizer.special_ids
        pieces = ["\n" if i in special else piece for i, piece in enumerate(tokenizer.pieces(vocabulary))]
        newlines = frozenset(i for i, piece in enumerate(pieces) if "\n" in piece)
        return cls(eos, newlines, frozenset(i for i, piece in enumerate(pieces) if not piece.strip()))


@dataclass(slots=True)
class Answer:
    """The new tokens of a row, the one that ends it included."""

    stops: StopTokens
    limit: int  # the maximum number of tokens
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    _has_text: bool = False

    def add(self, token: int) -> None:
        """Add a token, unless the answer has ended.

        # END of [5, 6, END, PAD] -> 3 tokens, stop      [NEWLINE, 5, NEWLINE] -> 3 tokens, stop
        """
        if self.finish_reason is not None:
            return
        self.tokens.append(token)
        if token in self.stops.eos or (self._has_text and token in self.stops.newlines):
            self.finish_reason = "stop"
        elif len(self.tokens) == self.limit:
            self.finish_reason = "length"
        self._has_text = self._has_text or token not in self.stops.blanks


def first_line(text: str) -> str:
    """Return the first line that is not blank. # "\\n A cat.\\nA dog." -> "A cat." """
    return re.split(r"[\n\r]", text.strip(), maxsplit=1)[0].strip()
