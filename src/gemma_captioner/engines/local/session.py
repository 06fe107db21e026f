"""A model that answers: one thread owns it, takes what waits, batches it whatever the frame counts, and replies."""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from transformers import GenerationConfig

from ...config.settings import Settings
from ...types import Failed, Pixels, Reply, Request
from ..base import EngineSpec, begun
from .decoding import LineEnds, RowSampling, breaks_and_blanks, ending, first_line
from .families import Family
from .loop import Steps, answer_tokens
from .memory import MemoryPlan, Precision
from .prompting import tokens_of, turns_of
from .vision import Vision


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    tokens: list[int]
    since: float

    @property
    def most_tokens(self) -> int:
        return len(self.tokens) + self.request.max_new_tokens


class LocalSession:
    """See `Session`. Its thread dies with `close`, within one token of what it is doing."""

    def __init__(
        self,
        model: Any,
        family: Family,
        processor: Any,
        spec: EngineSpec,
        plan: MemoryPlan,
        settings: Settings,
    ) -> None:
        self.model = model
        self.vision = Vision(model, family, processor)
        self._family = family
        self._processor = processor
        self._settings = settings
        self._context = spec.context
        self._tokens_at_once = plan.tokens_at_once
        fixed = settings.model.batch_size
        self._most = plan.most_at_once if fixed == "auto" else fixed
        self._by_tokens = fixed == "auto"
        self._prepare(plan.precision)
        self._unanswered = 0
        self._waiting: list[_Waiting] = []
        self._arrived = threading.Condition()
        self._answers: queue.SimpleQueue[Reply | Failed | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def _prepare(self, precision: Precision) -> None:
        tokenizer = self._processor.tokenizer
        device = self.model.device
        self._ends = sorted({tokenizer.eos_token_id, *self._chat_ends()})
        self._end_ids = torch.tensor(self._ends, device=device)
        # A model whose layers lie on several devices: what moves between them cannot be captured.
        spread = len(set((getattr(self.model, "hf_device_map", None) or {}).values())) > 1
        # bitsandbytes' 8-bit layers look for outliers on the host, older cards' mixtures of experts for counts.
        self._graphs = (
            device.type == "cuda"
            and not spread
            and precision != "8bit"
            and torch.cuda.get_device_capability(device) >= (8, 0)
        )
        self._breaks: torch.Tensor | None = None
        if self._processor.chat_template is None:
            vocabulary = self.model.config.get_text_config().vocab_size
            breaks, blanks = breaks_and_blanks(tokenizer, vocabulary)
            self._breaks = torch.tensor(breaks, device=device)
            self._blanks = torch.tensor(blanks, device=device)
        self._break_ids: set[int] = set() if self._breaks is None else set(_where(self._breaks))
        self._blank_ids: set[int] = set() if self._breaks is None else set(_where(self._blanks))

    def _chat_ends(self) -> list[int]:
        """The end of a turn, for a checkpoint that was taught turns; its generation config may name more."""
        ends = self.model.generation_config.eos_token_id or []
        ends = [ends] if isinstance(ends, int) else list(ends)
        self.model.generation_config = GenerationConfig()  # a checkpoint's sampling habits are not ours
        tokenizer = self._processor.tokenizer
        turns = [tokenizer.convert_tokens_to_ids(token) for token in ("<end_of_turn>", "<turn|>")]
        return [*ends, *(turn for turn in turns if turn not in (None, tokenizer.unk_token_id))]

    # The contract

    @property
    def free(self) -> int:
        return max(0, 2 * self._most - self._unanswered)  # one batch in work, one waiting

    def submit(self, request: Request) -> None:
        self._unanswered += 1
        waiting = _Waiting(request, self.tokens_of(request), time.monotonic())
        if waiting.most_tokens > self._context:
            self._answers.put(
                Failed(
                    request.item,
                    f"prompt and answer take {waiting.most_tokens} tokens, and the model holds {self._context}: "
                    "use fewer --frames or a shorter prompt",
                    request.id,
                )
            )
            return
        with self._arrived:
            self._waiting.append(waiting)
            self._arrived.notify()

    def tokens_of(self, request: Request) -> list[int]:
        """Prompt token ids."""
        turns = turns_of(request, partial(self._family.soft_tokens, self._processor))
        return tokens_of(self._family, self._processor, turns, self._settings)

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        answers: list[Reply | Failed] = []
        try:
            answer = self._answers.get(timeout=timeout_s)
            while True:
                if isinstance(answer, BaseException):
                    if not answers:
                        raise answer
                    self._answers.put(answer)  # for the next call: what was answered before it counts
                    break
                answers.append(answer)
                answer = self._answers.get_nowait()
        except queue.Empty:
            pass
        self._unanswered -= len(answers)
        return answers

    def close(self) -> None:
        self._stop.set()
        with self._arrived:
            self._arrived.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # The model's thread

    def _work(self) -> None:
        try:
            while batch := self._next_batch():
                self._answer_or_halve(batch)
        except BaseException as error:  # whatever it is, it ends the run: `poll` raises it where it is heard
            self._answers.put(error)

    def _next_batch(self) -> list[_Waiting]:
        """The one that waited longest and those most like it in length; [] once the session is closed."""
        with self._arrived:
            while not self._waiting and not self._stop.is_set():
                self._arrived.wait()
            if self._stop.is_set():
                return []
            oldest = self._waiting[0]
            alike = sorted(self._waiting, key=lambda w: (w is not oldest, abs(len(w.tokens) - len(oldest.tokens))))
            batch = alike[: self._most]
            while self._by_tokens and len(batch) > 1 and _padded_tokens(batch) > self._tokens_at_once:
                batch.pop()
            self._waiting = [w for w in self._waiting if not any(w is b for b in batch)]
            return batch

    def _answer_or_halve(self, batch: list[_Waiting]) -> None:
        try:
            rows = self.generate(batch)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            # leave the handler first: the error's frames hold the tensors that are to be freed
        else:
            if not self._stop.is_set():
                for waiting, new in zip(batch, rows, strict=True):
                    self._answers.put(self._reply(waiting, new))
            return
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1 and self.vision.chunk > 1:  # older cards' attention takes far more than was planned for
            self.vision.chunk //= 2
            self._answer_or_halve(batch)
            return
        if len(batch) == 1:
            advice = "out of memory for this one alone: use fewer --frames, or --quantize 4bit"
            self._answers.put(Failed(batch[0].request.item, advice, batch[0].request.id))
            return
        half = len(batch) // 2
        if self._by_tokens:  # remembered: what was too much once is not tried again
            self._tokens_at_once = min(self._tokens_at_once, _padded_tokens(batch) // 2)
        else:
            self._most = min(self._most, half)
        for part in (batch[:half], batch[half:]):
            if not self._stop.is_set():
                self._answer_or_halve(part)

    @torch.inference_mode()
    def generate(self, batch: list[_Waiting]) -> list[list[int]]:
        """New tokens of each row, padded to the longest."""
        device, pad = self.model.device, self._processor.tokenizer.pad_token_id
        requests = [w.request for w in batch]
        longest = max(len(w.tokens) for w in batch)
        input_ids = torch.tensor([[pad] * (longest - len(w.tokens)) + w.tokens for w in batch], device=device)
        lengths = torch.tensor([len(w.tokens) for w in batch], device=device)
        prompt_mask = torch.arange(longest, device=device) >= longest - lengths[:, None]
        limits = [r.max_new_tokens for r in requests]
        steps = Steps(self.model, prompt_mask, max(limits), graph=self._graphs)
        logits = steps.read_prompt(input_ids, self.vision.prefill(_pixels(requests), input_ids))
        rows = answer_tokens(
            steps,
            logits,
            choose=RowSampling([r.temperature for r in requests], [r.seed for r in requests], device),
            ends=self._end_ids,
            limits=limits,
            pad=pad,
            line_ends=None if self._breaks is None else LineEnds(self._breaks, self._blanks, len(batch)),
            stop=self._stop,
        )
        self._graphs = self._graphs and not steps.capture_failed
        return rows

    def _reply(self, waiting: _Waiting, new: list[int]) -> Reply:
        limit = waiting.request.max_new_tokens
        end = ending(new[:limit], self._ends, self._break_ids, self._blank_ids)
        text = self._processor.tokenizer.decode(new[: end.length], skip_special_tokens=True)
        if self._breaks is not None:
            text = " " * text[:1].isspace() * bool(waiting.request.begin) + first_line(text)
        return Reply(
            request_id=waiting.request.id,
            text=begun(waiting.request.begin, text),
            finish_reason=end.finish_reason,
            prompt_tokens=len(waiting.tokens),
            new_tokens=end.length,
            seconds=time.monotonic() - waiting.since,
        )


_OUT_OF_MEMORY = (
    "can't allocate memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """torch has a class of its own for CUDA; the CPU's and Apple's allocators raise a plain RuntimeError."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in _OUT_OF_MEMORY)


def _pixels(requests: Sequence[Request]) -> list[Pixels]:
    """In the order of the prompts' markers: of each request, its examples' before its own."""
    shown = [[*(example.frames for example in request.examples), request.frames] for request in requests]
    return [frames.pixels for of_request in shown for frames in of_request if frames is not None]


def _padded_tokens(batch: list[_Waiting]) -> int:
    longest = max(len(w.tokens) for w in batch) + max(w.request.max_new_tokens for w in batch)
    return len(batch) * longest


def _where(mask: torch.Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero().flatten().tolist()]
