"""The local session: one thread owns the model and answers pending requests in batches of mixed frame counts."""

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
from ..base import EngineSpec, Result, begun, drain
from .families import Family
from .generation import DecodeRunner, generate
from .memory import MemoryPlan, Precision
from .processor import Processor
from .prompting import encode_prompt, request_turns
from .sampler import NewlineStoppingCriteria, Sampler, find_stop, first_line, newline_and_blank_tokens
from .vision import VisionEncoder


@dataclass(frozen=True, slots=True)
class PendingRequest:
    request: Request
    tokens: list[int]
    submitted_at: float

    @property
    def max_total_tokens(self) -> int:
        return len(self.tokens) + self.request.max_new_tokens


class LocalSession:
    """Implements `Session`. `close` stops its thread within one token."""

    def __init__(
        self,
        model: Any,
        family: Family,
        processor: Processor,
        spec: EngineSpec,
        plan: MemoryPlan,
        settings: Settings,
    ) -> None:
        self.model = model
        self.vision = VisionEncoder(model, family, processor)
        self._family = family
        self._processor = processor
        self._settings = settings
        self._context = spec.context_length
        self._max_batch_tokens = plan.max_batch_tokens
        batch_size = settings.model.batch_size
        self._max_batch_size = plan.max_batch_size if batch_size == "auto" else batch_size
        self._limit_by_tokens = batch_size == "auto"
        self._prepare_stopping(plan.precision)
        self._in_flight = 0
        self._pending: list[PendingRequest] = []
        self._request_added = threading.Condition()
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_worker, name="model", daemon=True)
        self._thread.start()

    def _prepare_stopping(self, precision: Precision) -> None:
        tokenizer = self._processor.tokenizer
        device = self.model.device
        self._eos_token_ids = sorted({tokenizer.eos_token_id, *self._chat_eos_token_ids()})
        self._eos_token_tensor = torch.tensor(self._eos_token_ids, device=device)
        # CUDA graphs cannot capture copies between devices.
        spread = len(set((getattr(self.model, "hf_device_map", None) or {}).values())) > 1
        # They cannot capture host synchronization either. bitsandbytes' 8-bit layers synchronize to find outliers, and
        # mixtures of experts on older GPUs synchronize to count tokens.
        self._use_cuda_graphs = (
            device.type == "cuda"
            and not spread
            and precision != "8bit"
            and torch.cuda.get_device_capability(device) >= (8, 0)
        )
        self._newlines: torch.Tensor | None = None
        if self._processor.chat_template is None:
            vocabulary = self.model.config.get_text_config().vocab_size
            breaks, blanks = newline_and_blank_tokens(tokenizer, vocabulary)
            self._newlines = torch.tensor(breaks, device=device)
            self._blanks = torch.tensor(blanks, device=device)
        self._newline_token_ids: set[int] = set() if self._newlines is None else set(_nonzero_indices(self._newlines))
        self._blank_token_ids: set[int] = set() if self._newlines is None else set(_nonzero_indices(self._blanks))

    def _chat_eos_token_ids(self) -> list[int]:
        """Return the token ids that end a turn, those of the generation config included."""
        ends = self.model.generation_config.eos_token_id or []
        ends = [ends] if isinstance(ends, int) else list(ends)
        self.model.generation_config = GenerationConfig()  # ignores the checkpoint's sampling defaults
        tokenizer = self._processor.tokenizer
        turns = [tokenizer.token_id(token) for token in ("<end_of_turn>", "<turn|>")]
        return [*ends, *(turn for turn in turns if turn not in (None, tokenizer.unk_token_id))]

    # The session protocol

    @property
    def available_slots(self) -> int:
        return max(0, 2 * self._max_batch_size - self._in_flight)  # one batch running, one waiting

    def submit(self, request: Request) -> None:
        self._in_flight += 1
        pending = PendingRequest(request, self.encode_prompt(request), time.monotonic())
        if pending.max_total_tokens > self._context:
            self._results.put(
                Failed(
                    request.item,
                    f"prompt and answer need {pending.max_total_tokens} tokens, but the context holds {self._context}: "
                    "use fewer --frames or a shorter prompt",
                    request.id,
                )
            )
            return
        with self._request_added:
            self._pending.append(pending)
            self._request_added.notify()

    def encode_prompt(self, request: Request) -> list[int]:
        """Return the prompt's token ids."""
        turns = request_turns(request, partial(self._family.soft_tokens, self._processor))
        return encode_prompt(self._family, self._processor, turns, self._settings)

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        answers = drain(self._results, timeout_s)
        self._in_flight -= len(answers)
        return answers

    def close(self) -> None:
        self._stop.set()
        with self._request_added:
            self._request_added.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Runs in the model's thread

    def _run_worker(self) -> None:
        try:
            while batch := self._next_batch():
                self._run_batch_with_oom_retry(batch)
        except BaseException as error:  # any error ends the run: `poll` raises it in the caller's thread
            self._results.put(error)

    def _next_batch(self) -> list[PendingRequest]:
        """Return the oldest request and those closest to it in length; [] if the session is closed."""
        with self._request_added:
            while not self._pending and not self._stop.is_set():
                self._request_added.wait()
            if self._stop.is_set():
                return []
            oldest = self._pending[0]
            by_length = sorted(self._pending, key=lambda w: (w is not oldest, abs(len(w.tokens) - len(oldest.tokens))))
            batch = by_length[: self._max_batch_size]
            while self._limit_by_tokens and len(batch) > 1 and _padded_tokens(batch) > self._max_batch_tokens:
                batch.pop()
            self._pending = [w for w in self._pending if not any(w is b for b in batch)]
            return batch

    def _run_batch_with_oom_retry(self, batch: list[PendingRequest]) -> None:
        try:
            rows = self.generate_batch(batch)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            # Retry outside this handler: the error's stack frames keep the batch's tensors alive.
        else:
            if not self._stop.is_set():
                for pending, new in zip(batch, rows, strict=True):
                    self._results.put(self._reply(pending, new))
            return
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1 and self.vision.chunk > 1:  # attention on older GPUs needs far more than the plan
            self.vision.chunk //= 2
            self._run_batch_with_oom_retry(batch)
            return
        if len(batch) == 1:
            advice = "out of memory, even in a batch of its own: use fewer --frames, or --quantize 4bit"
            self._results.put(Failed(batch[0].request.item, advice, batch[0].request.id))
            return
        half = len(batch) // 2
        if self._limit_by_tokens:  # later batches stay below the failed size
            self._max_batch_tokens = min(self._max_batch_tokens, _padded_tokens(batch) // 2)
        else:
            self._max_batch_size = min(self._max_batch_size, half)
        for part in (batch[:half], batch[half:]):
            if not self._stop.is_set():
                self._run_batch_with_oom_retry(part)

    @torch.inference_mode()
    def generate_batch(self, batch: list[PendingRequest]) -> list[list[int]]:
        """Return the new tokens of each row, padded to the longest."""
        device, pad = self.model.device, self._processor.tokenizer.pad_token_id
        requests = [w.request for w in batch]
        longest = max(len(w.tokens) for w in batch)
        input_ids = torch.tensor([[pad] * (longest - len(w.tokens)) + w.tokens for w in batch], device=device)
        lengths = torch.tensor([len(w.tokens) for w in batch], device=device)
        prompt_mask = torch.arange(longest, device=device) >= longest - lengths[:, None]
        limits = [r.max_new_tokens for r in requests]
        runner = DecodeRunner(self.model, prompt_mask, max(limits), graph=self._use_cuda_graphs)
        logits = runner.prefill(input_ids, self.vision.embed_images(_pixels(requests), input_ids))
        rows = generate(
            runner,
            logits,
            sample=Sampler([r.temperature for r in requests], [r.seed for r in requests], device),
            eos_token_ids=self._eos_token_tensor,
            limits=limits,
            pad_token_id=pad,
            stopping_criteria=None
            if self._newlines is None
            else NewlineStoppingCriteria(self._newlines, self._blanks, len(batch)),
            stop=self._stop,
        )
        self._use_cuda_graphs = self._use_cuda_graphs and not runner.capture_failed
        return rows

    def _reply(self, pending: PendingRequest, new: list[int]) -> Reply:
        limit = pending.request.max_new_tokens
        end = find_stop(new[:limit], self._eos_token_ids, self._newline_token_ids, self._blank_token_ids)
        text = self._processor.tokenizer.decode(new[: end.length], skip_special_tokens=True)
        if self._newlines is not None:
            text = " " * text[:1].isspace() * bool(pending.request.begin) + first_line(text)
        return Reply(
            request_id=pending.request.id,
            text=begun(pending.request.begin, text),
            finish_reason=end.finish_reason,
            prompt_tokens=len(pending.tokens),
            new_tokens=end.length,
            seconds=time.monotonic() - pending.submitted_at,
        )


_OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """torch has an exception class for CUDA; the CPU and MPS allocators raise a plain RuntimeError."""
    message = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in message for words in _OUT_OF_MEMORY_MESSAGES)


def _pixels(requests: Sequence[Request]) -> list[Pixels]:
    """Return pixels in the order of the image markers: the examples of each request, then its own frames."""
    per_request = [[*(example.frames for example in request.examples), request.frames] for request in requests]
    return [frames.pixels for group in per_request for frames in group if frames is not None]


def _padded_tokens(batch: list[PendingRequest]) -> int:
    longest = max(len(w.tokens) for w in batch) + max(w.request.max_new_tokens for w in batch)
    return len(batch) * longest


def _nonzero_indices(mask: torch.Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero().flatten().tolist()]
