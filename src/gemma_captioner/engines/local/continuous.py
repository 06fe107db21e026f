"""Continuous batching: a request takes a free row of the KV cache, and leaves it when its answer has ended.

The rows beside it go on. Unlike in a batch that starts and ends as a whole, one long answer holds up no other request.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...types import Request
from .audio import Features
from .batching import row_bucket
from .generation import DecodeRunner
from .graphs import GraphPool
from .sampler import Answer, Sampler, StopTokens

# Decode steps between two looks at the new tokens. On an accelerator each look waits for all launched kernels.
_STEPS_PER_READ = {"cpu": 1}
_DEFAULT_STEPS_PER_READ = 8


@dataclass(frozen=True, slots=True)
class PendingRequest:
    request: Request
    tokens: list[int]  # of the prompt
    submitted_at: float  # time.monotonic()
    sounds: Sequence[Features] = ()  # of what precedes the request, and of the request itself
    images: list[torch.Tensor] = field(default_factory=list, compare=False)  # features of its frames, once encoded

    @property
    def max_total_tokens(self) -> int:
        return len(self.tokens) + self.request.max_new_tokens


@dataclass(frozen=True, slots=True)
class Running:
    """A request in a row, with the part of its answer that is known."""

    pending: PendingRequest
    answer: Answer

    @property
    def total_tokens(self) -> int:
        return len(self.pending.tokens) + len(self.answer.tokens)


class ContinuousBatch:
    """The requests that are answered at the moment, each in a row of one KV cache.

    Attributes:
        rows: The maximum number of requests at a time.
        columns: The maximum number of tokens of a prompt and its answer.
    """

    def __init__(
        self,
        model: Any,
        rows: int,
        columns: int,
        *,
        stops: StopTokens,
        pad_token_id: int,
        graphs: GraphPool,
        constant_shapes: bool,
        prompt_shape: Callable[[int, int], tuple[int, int]],
    ) -> None:
        """Allocate nothing yet.

        Args:
            model: The transformers model.
            rows: See the class.
            columns: See the class.
            stops: The tokens that end an answer.
            pad_token_id: Fills prompts on the left.
            graphs: Captures decode steps, where it is enabled.
            constant_shapes: Rows come in buckets, and attention reads the whole cache.
            prompt_shape: Maps the number and the longest of the prompts of a prefill to its rows and columns.
        """
        self.rows, self.columns = rows, columns
        self._device, self._pad, self._stops = model.device, pad_token_id, stops
        self._constant_shapes, self._prompt_shape = constant_shapes, prompt_shape
        self._steps_per_read = _STEPS_PER_READ.get(model.device.type, _DEFAULT_STEPS_PER_READ)
        # The rows that fill the bucket of a prefill are read into one more row of the cache.
        self._runner = DecodeRunner(
            model, rows + constant_shapes, columns, graphs=graphs, constant_shapes=constant_shapes
        )
        self._sampler = Sampler(model.device)
        self._running: dict[int, Running] = {}  # by row
        self._active = 0  # rows that take part in a step: the first ones
        self._unread: list[torch.Tensor] = []  # the tokens of steps, int64 [active rows] each, still on the device

    def __len__(self) -> int:
        return len(self._running)

    def can_hold(self, pending: PendingRequest) -> bool:
        """Whether a row holds the request and, where attention reads whole rows, is not far too long for it."""
        total = pending.max_total_tokens
        return total <= self.columns and (not self._constant_shapes or 2 * total >= self.columns)

    def prefill(
        self,
        batch: Sequence[PendingRequest],
        encode: Callable[[Sequence[PendingRequest], torch.Tensor], Mapping[str, Any]],
    ) -> list[Running]:
        """Take requests into free rows and read their prompts. Return those whose first token ends the answer.

        encode: maps requests and the ids of their prompts, int64 [n, columns], to the arguments of the model's forward.
        """
        self._read()
        free = [row for row in range(self.rows) if row not in self._running][: len(batch)]
        count, columns = self._prompt_shape(len(batch), max(len(p.tokens) for p in batch))
        tokens = [p.tokens for p in batch] + [batch[-1].tokens[:1]] * (count - len(batch))
        input_ids = torch.tensor([[self._pad] * (columns - len(row)) + row for row in tokens], device=self._device)
        lengths = torch.tensor([len(row) for row in tokens], device=self._device)
        mask = torch.arange(columns, device=self._device) >= columns - lengths[:, None]
        media = encode(batch, input_ids)
        logits = self._runner.prefill([*free, *[self.rows] * (count - len(batch))], input_ids, mask, media)
        for row, pending in zip(free, batch, strict=True):
            self._sampler.set_row(row, pending.request.temperature, pending.request.seed)
        first = self._sampler(logits[: len(batch)], free)
        self._runner.set_tokens(free, first)
        for row, pending, token in zip(free, batch, first.tolist(), strict=True):  # last: nothing can fail any more
            self._running[row] = Running(pending, Answer(self._stops, pending.request.max_new_tokens))
            self._running[row].answer.add(token)
        return self._take_finished()

    def decode(
        self, *, capture: bool, stop: threading.Event | None = None, meanwhile: Callable[[], None] = lambda: None
    ) -> list[Running]:
        """Run decode steps up to the next look at their tokens. Return the requests whose answers have ended.

        meanwhile: Called when the steps are launched and, on an accelerator, still run.
        """
        self._runner.use_rows(self._active, max(running.total_tokens for running in self._running.values()) - 1)
        while len(self._unread) < self._steps_per_read:
            if stop is not None and stop.is_set():
                return []
            new = self._sampler(self._runner.step(capture=capture), range(self._active))
            self._runner.accept(new)
            self._unread.append(new)
        meanwhile()
        self._read()
        return self._take_finished()

    def _read(self) -> None:
        """Add the tokens of the last steps to the answers."""
        if not self._unread:
            return
        steps, self._unread = torch.stack(self._unread).tolist(), []
        for tokens in steps:
            for row, running in self._running.items():
                running.answer.add(tokens[row])

    def choose_rows(self, *, can_refill: bool) -> None:
        """Choose the rows of the next steps. If nothing can refill free rows, the last rows move into them.

        can_refill: Whether this batch can hold a pending request.
        """
        self._read()
        if not self._running:
            return
        count = len(self._running)
        if not can_refill and (not self._constant_shapes or 2 * row_bucket(count) <= self._active):
            holes = [row for row in range(count) if row not in self._running]
            for source, target in zip(sorted(self._running)[count - len(holes) :], holes, strict=True):
                self._runner.move(source, target)
                self._sampler.move(source, target)
                self._running[target] = self._running.pop(source)
        used = 1 + max(self._running)
        if not self._constant_shapes:
            self._active = used
        elif used > self._active or (2 * row_bucket(used) <= self._active and not can_refill):
            self._active = min(row_bucket(used), self.rows)

    def evict(self, count: int) -> list[PendingRequest]:
        """Take the `count` youngest requests out, to be answered again from their beginning."""
        self._read()
        youngest = sorted(self._running, key=lambda row: len(self._running[row].answer.tokens))[:count]
        return [self._running.pop(row).pending for row in youngest]

    def forget_graph(self) -> None:
        """Capture the next step anew."""
        self._runner.forget_graph()

    def _take_finished(self) -> list[Running]:
        finished = [row for row, running in self._running.items() if running.answer.finish_reason is not None]
        return [self._running.pop(row) for row in finished]
