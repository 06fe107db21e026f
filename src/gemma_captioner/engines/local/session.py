"""The local session: one thread owns the model and answers pending requests in batches of mixed frame counts."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig

from ...config.settings import Settings
from ...types import Failed, Pixels, Reply, Request
from ..base import EngineSpec, Result, Session, drain, prepend_begin
from .audio import AudioEncoder, Features
from .batching import BatchLimits, next_batch
from .families import Family
from .fused import FusedLayers, compile_region
from .generation import DecodeRunner, generate
from .graphs import GraphPool
from .hardware import has_bf16, is_out_of_memory
from .memory import MemoryPlan, Precision
from .processor import Processor
from .prompting import encode_prompt, request_turns
from .sampler import NewlineStoppingCriteria, Sampler, find_stop, first_line, newline_and_blank_tokens
from .vision import VisionEncoder

_BATCHES_BEFORE_COMPILING = 4  # a job of fewer batches ends before compiled kernels could make up for compiling
_BATCHES_TO_GROW = 8  # successful batches after which limits double that were halved for lack of memory


@dataclass(frozen=True, slots=True)
class PendingRequest:
    request: Request
    tokens: list[int]
    submitted_at: float
    sounds: Sequence[Features] = ()  # of the examples and of the request itself

    @property
    def max_total_tokens(self) -> int:
        return len(self.tokens) + self.request.max_new_tokens


class LocalSession(Session):
    """`close` stops its thread within one token."""

    def __init__(
        self,
        model: Any,
        family: Family,
        processor: Processor,
        spec: EngineSpec,
        plan: MemoryPlan,
        settings: Settings,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """log: Receives lines for the user, called by the thread that polls."""
        self.model = model
        self.vision = VisionEncoder(model, family, processor)
        self.audio = AudioEncoder(model, family.audio, processor) if family.audio and spec.max_audio_s else None
        self._family = family
        self._processor = processor
        self._settings = settings
        self._context = spec.context_length
        self._log = log
        rows = settings.model.batch_size
        self._planned = BatchLimits(
            plan.max_batch_size if rows == "auto" else rows,
            plan.max_batch_tokens if rows == "auto" else None,
            constant_shapes=model.device.type != "cpu",
        )
        self._limits = self._planned  # smaller for a while after memory ran out
        self._successes = 0  # batches since memory ran out
        self._batches = 0  # so far
        self._passes = 0  # batches that passed over the oldest request
        self._is_encoding = False
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._report = _report_once(self._results)
        self._prepare_stopping(plan.precision)
        self._in_flight = 0
        self._pending: list[PendingRequest] = []
        self._request_added = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_worker, name="model", daemon=True)
        self._thread.start()

    def _prepare_stopping(self, precision: Precision) -> None:
        tokenizer = self._processor.tokenizer
        device = self.model.device
        self._eos_token_ids = sorted({tokenizer.eos_token_id, *self._chat_eos_token_ids()})
        self._eos_token_tensor = torch.tensor(self._eos_token_ids, device=device)
        # CUDA graphs cannot capture copies between devices, and compiled layers would drop the hooks that make them.
        spread = len(set((getattr(self.model, "hf_device_map", None) or {}).values())) > 1
        self.can_fuse = device.type == "cuda" and not spread and has_bf16(device.type)
        self._fused: FusedLayers | None = None
        # Graphs cannot capture host synchronization either. bitsandbytes' 8-bit layers synchronize to find outliers,
        # and mixtures of experts on older GPUs synchronize to count tokens.
        self.graphs = GraphPool(device, self._report)
        self.graphs.enabled = self.can_fuse and precision != "8bit"
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
        return max(0, 2 * self._limits.rows - self._in_flight)  # one batch running, one waiting

    def submit(self, request: Request) -> None:
        self._in_flight += 1
        pending = self.prepare(request)
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

    def prepare(self, request: Request) -> PendingRequest:
        """Tokenize the prompt and extract the features of the sound, while the model answers earlier requests."""
        sounds = [] if self.audio is None else [self.audio.features(sound) for sound in self.audio.sounds(request)]
        return PendingRequest(request, self.encode_prompt(request), time.monotonic(), sounds)

    def encode_prompt(self, request: Request) -> list[int]:
        """Return the prompt's token ids."""
        soft_tokens = partial(self._family.soft_tokens, self._processor)
        turns = request_turns(request, soft_tokens, self.audio.soft_tokens if self.audio else lambda samples: 0)
        return encode_prompt(self._family, self._processor, turns, self._settings)

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        replies = drain(self._results, timeout_s, self._log)
        self._in_flight -= len(replies)
        return replies

    def close(self) -> None:
        self._stop.set()
        with self._request_added:
            self._request_added.notify()
        self._thread.join()
        if self._fused is not None:
            self._fused.undo()

    # Runs in the model's thread

    def _run_worker(self) -> None:
        try:
            while batch := self._next_batch():
                self._run_batch_with_oom_retry(batch)
        except BaseException as error:  # any error ends the run: `poll` raises it in the caller's thread
            self._results.put(error)

    def _next_batch(self) -> list[PendingRequest]:
        """Wait for requests, then take those of the next batch. Returns [] if the session is closed."""
        with self._request_added:
            while not self._pending and not self._stop.is_set():
                self._request_added.wait()
            if self._stop.is_set():
                return []
            chosen = next_batch(
                [len(w.tokens) for w in self._pending],
                self._limits,
                new_tokens=max(w.request.max_new_tokens for w in self._pending),
                passes=self._passes,
            )
            batch = [self._pending[i] for i in chosen]
            self._passes = 0 if 0 in chosen else self._passes + 1
            left = set(range(len(self._pending))).difference(chosen)
            self._pending = [self._pending[i] for i in sorted(left)]
            return batch

    def _run_batch_with_oom_retry(self, batch: list[PendingRequest], is_retry: bool = False) -> None:
        try:
            rows = self.generate_batch(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            # Retry outside this handler: the error's stack frames keep the batch's tensors alive.
        else:
            self._grow_limits()
            if not self._stop.is_set():
                for pending, new in zip(batch, rows, strict=False):  # rows that fill a bucket come last
                    self._results.put(self._reply(pending, new))
            return
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if not is_retry:  # what was cached in blocks of other sizes is free now
            parts = [batch]
        elif self._is_encoding and self.vision.chunk > 1:
            self.vision.chunk //= 2
            parts = [batch]
        elif len(batch) > 1:
            parts = self._halve(batch)
        else:
            advice = "out of memory even in a batch of one file: use fewer --frames, or --quantize 4bit"
            self._results.put(Failed(batch[0].request.item, advice, batch[0].request.id))
            return
        for part in parts:
            if not self._stop.is_set():
                self._run_batch_with_oom_retry(part, is_retry=True)

    def _halve(self, batch: list[PendingRequest]) -> list[list[PendingRequest]]:
        """Split the batch, and keep later batches below its size until `_grow_limits`."""
        half = len(batch) // 2
        if self._limits.tokens is None:
            self._limits = replace(self._limits, rows=min(self._limits.rows, half))
        else:
            rows, columns = self._limits.shape(half, max(len(w.tokens) for w in batch))
            tokens = rows * (columns + max(w.request.max_new_tokens for w in batch))
            self._limits = replace(self._limits, tokens=min(self._limits.tokens, tokens))
        self._successes = 0
        return [batch[:half], batch[half:]]

    def _grow_limits(self) -> None:
        """Double smaller limits after some successful batches: another program may have used the GPU."""
        self._successes += 1
        if self._limits != self._planned and self._successes % _BATCHES_TO_GROW == 0:
            doubled = replace(self._limits, rows=min(self._planned.rows, 2 * self._limits.rows))
            if doubled.tokens is not None and self._planned.tokens is not None:
                doubled = replace(doubled, tokens=min(self._planned.tokens, 2 * doubled.tokens))
            self._limits = doubled

    @torch.inference_mode()
    def generate_batch(self, batch: list[PendingRequest]) -> list[list[int]]:
        """Return the new tokens of each row, padded to the longest. Rows that fill a bucket come last."""
        device, pad = self.model.device, self._processor.tokenizer.pad_token_id
        requests = [w.request for w in batch]
        tokens = [w.tokens for w in batch]
        rows, columns = self._limits.shape(len(batch), max(map(len, tokens)))
        tokens += [tokens[-1][:1]] * (rows - len(batch))
        input_ids = torch.tensor([[pad] * (columns - len(row)) + row for row in tokens], device=device)
        lengths = torch.tensor([len(row) for row in tokens], device=device)
        prompt_mask = torch.arange(columns, device=device) >= columns - lengths[:, None]
        limits = [r.max_new_tokens for r in requests] + [1] * (rows - len(batch))
        self._is_encoding = True
        inputs = self.vision.embed_images(_pixels(requests), input_ids)
        if self.audio is not None and (sounds := [sound for w in batch for sound in w.sounds]):
            inputs |= self.audio.embed_audio(sounds, input_ids)
        self._is_encoding = False
        fused = self._fused_layers()
        is_checking = fused is not None and fused.is_checking
        runner = DecodeRunner(
            self.model,
            prompt_mask,
            max(limits),
            graphs=self.graphs if self.graphs.enabled and not is_checking else None,
            constant_shapes=self._limits.constant_shapes,
        )
        with fused or nullcontext():
            generated = generate(
                runner,
                runner.prefill(input_ids, inputs),
                sample=Sampler([r.temperature for r in requests], [r.seed for r in requests], device),
                eos_token_ids=self._eos_token_tensor,
                limits=limits,
                pad_token_id=pad,
                stopping_criteria=None
                if self._newlines is None
                else NewlineStoppingCriteria(self._newlines, self._blanks, rows),
                stop=self._stop,
            )
        if fused is not None:
            fused.is_checking = False
        return generated

    def _fused_layers(self) -> FusedLayers | None:
        """Return the compiled parts of the model, once enough batches have run for compiling to pay."""
        self._batches += 1
        if self.can_fuse and self._fused is None and self._batches > _BATCHES_BEFORE_COMPILING:
            self._fused = FusedLayers(self.model.model.language_model, self._report, compile_region)
        return self._fused

    def _reply(self, pending: PendingRequest, new: list[int]) -> Reply:
        limit = pending.request.max_new_tokens
        end = find_stop(new[:limit], self._eos_token_ids, self._newline_token_ids, self._blank_token_ids)
        text = self._processor.tokenizer.decode(new[: end.length], skip_special_tokens=True)
        if self._newlines is not None:
            text = " " * text[:1].isspace() * bool(pending.request.begin) + first_line(text)
        return Reply(
            request_id=pending.request.id,
            text=prepend_begin(pending.request.begin, text),
            finish_reason=end.finish_reason,
            prompt_tokens=len(pending.tokens),
            new_tokens=end.length,
            seconds=time.monotonic() - pending.submitted_at,
        )


def _report_once(results: "queue.SimpleQueue[Result]") -> Callable[[str], None]:
    """Return a function that sends each line to the user once. It does not keep the session and its model alive."""
    reported: set[str] = set()

    def report(line: str) -> None:
        if line not in reported:
            reported.add(line)
            results.put(line)

    return report


def _pixels(requests: Sequence[Request]) -> list[Pixels]:
    """Return pixels in the order of the image markers: the examples of each request, then its own frames."""
    per_request = [[*(example.frames for example in request.examples), request.frames] for request in requests]
    return [frames.pixels for group in per_request for frames in group if frames is not None]


def _nonzero_indices(mask: torch.Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero().flatten().tolist()]
