"""The local session: one thread owns the model, and admits pending requests to a continuous batch."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ...config.settings import Settings
from ...types import Failed, Reply, Request
from ..base import EngineSpec, Result, ThreadedSession, prepend_begin
from .audio import AudioEncoder
from .batching import MAX_PASSES, BatchLimits, column_bucket, next_batch
from .continuous import ContinuousBatch, PendingRequest, Running
from .families import Family
from .fused import FusedLayers, compile_region
from .graphs import GraphPool
from .hardware import has_bf16, is_out_of_memory
from .media_encoder import MediaEncoder, forget_images
from .memory import MemoryPlan, Precision
from .processor import Processor
from .prompting import encode_prompt, request_turns
from .sampler import StopTokens, first_line
from .vision import VisionEncoder

_BATCHES_BEFORE_COMPILING = 4  # a job of fewer batches ends before compiled kernels could make up for compiling
_BATCHES_TO_GROW = 8  # limits that an OOM has lowered double after replies to so many batches
_REFILL_SHARE = 8  # free rows are refilled once they are an eighth of all: a prefill of one row is slow


class LocalSession(ThreadedSession):
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
        super().__init__(log)
        self.model = model
        self.vision = VisionEncoder(model, family, processor)
        self.audio = AudioEncoder(model, family.audio, processor) if family.audio and spec.max_audio_s else None
        self.media = MediaEncoder(self.vision, self.audio)
        self._family = family
        self._processor = processor
        self._settings = settings
        self._context = spec.context_length
        rows = settings.model.batch_size
        self._planned = BatchLimits(
            plan.max_batch_size if rows == "auto" else rows,
            plan.max_batch_tokens if rows == "auto" else None,
            constant_shapes=model.device.type != "cpu",
        )
        self._limits = self._planned  # smaller for a while after memory ran out
        self._batch: ContinuousBatch | None = None
        self._replies_since_oom = 0  # or since the limits were raised
        self._num_oom = 0  # times in succession that memory ran out
        self._num_requests = 0  # prefilled so far
        self._passed_over = 0  # requests prefilled since the oldest one waits
        self._report = _report_once(self._results)
        self._stops = StopTokens.of(model, processor)
        self._choose_acceleration(plan.precision)
        self._pending: list[PendingRequest] = []
        self._request_added = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_worker, name="model", daemon=True)
        self._thread.start()

    def _choose_acceleration(self, precision: Precision) -> None:
        """Decide on compiled layers, CUDA graphs and a second stream for the vision encoder."""
        device = self.model.device
        # CUDA graphs cannot capture copies between devices, and compiled layers would drop the hooks that make them.
        spread = len(set((getattr(self.model, "hf_device_map", None) or {}).values())) > 1
        self.can_fuse = device.type == "cuda" and not spread and has_bf16(device.type)
        self.media.encodes_ahead = device.type == "cuda" and not spread  # a CPU has no idle units
        self._fused: FusedLayers | None = None
        # Graphs cannot capture host synchronization either. bitsandbytes' 8-bit layers synchronize to find outliers,
        # and mixtures of experts on older GPUs synchronize to count tokens.
        self.graphs = GraphPool(device, self._report)
        self.graphs.enabled = self.can_fuse and precision != "8bit"

    # The session protocol

    @property
    def available_slots(self) -> int:
        return max(0, 2 * self._limits.rows - self._in_flight)  # one batch running, one waiting

    def submit(self, request: Request) -> None:
        self._in_flight += 1
        try:
            pending = self.prepare(request)
        except ValueError as error:  # a value of a variable contains a token that stands for media
            failed = Failed(request.item, f"the prompt cannot be read ({error}): remove special tokens", request.id)
            self._results.put(failed)
            return
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
            while self._wait_for_work():
                while requests := self._next_requests():
                    self._run_with_oom_retry(partial(self._prefill, requests), requests)
                if self._batch:
                    self._run_with_oom_retry(self._decode)
        except BaseException as error:  # any error ends the run: `poll` raises it in the caller's thread
            self._results.put(error)

    def _wait_for_work(self) -> bool:
        """Wait until requests run or wait. Return False if the session is closed."""
        with self._request_added:
            while not self._pending and not self._batch and not self._stop.is_set():
                self._request_added.wait()
        return not self._stop.is_set()

    def _next_requests(self) -> list[PendingRequest]:
        """Take the pending requests to prefill next into free rows. Return [] to go on with the running ones alone."""
        batch, limits = self._batch, self._limits
        with self._request_added:
            fitting = [i for i, pending in enumerate(self._pending) if not batch or batch.can_hold(pending)]
            if not fitting or self._stop.is_set():
                return []
            is_starved = self._passed_over >= MAX_PASSES * limits.rows
            if batch:
                free = min(batch.rows, limits.rows) - len(batch)
                is_outgrown = batch.rows < limits.max_rows(batch.columns)
                if free < max(1, batch.rows // _REFILL_SHARE) or is_outgrown or (is_starved and fitting[0] > 0):
                    return []
                limits = replace(limits, rows=free, tokens=None)
            chosen = next_batch(
                [len(self._pending[i].tokens) for i in fitting],
                limits,
                new_tokens=max(self._pending[i].request.max_new_tokens for i in fitting),
                must_have_oldest=is_starved,
            )
            places = {fitting[i] for i in chosen}
            requests = [self._pending[fitting[i]] for i in chosen]
            longest = max(pending.max_total_tokens for pending in self._pending)
            self._passed_over = 0 if 0 in places else self._passed_over + len(places)
            self._pending = [pending for i, pending in enumerate(self._pending) if i not in places]
        if not batch:
            self._batch = self._batch_for(requests, longest)
        return requests

    def _batch_for(self, requests: Sequence[PendingRequest], longest: int = 0) -> ContinuousBatch:
        """Return a batch that can hold the requests, and also the pending ones if that costs no rows.

        longest: the maximum number of tokens of a pending request.
        """
        columns = max(pending.max_total_tokens for pending in requests)
        if self._limits.constant_shapes:
            columns = column_bucket(columns)
        elif longest > columns and self._limits.max_rows(longest) == self._limits.max_rows(columns):
            columns = longest
        rows = max(self._limits.max_rows(columns), len(requests))
        if self._batch is not None and self._batch.rows == rows and all(map(self._batch.can_hold, requests)):
            return self._batch
        self._batch = None  # frees its memory first
        return ContinuousBatch(
            self.model,
            rows,
            columns,
            stops=self._stops,
            pad_token_id=self._processor.tokenizer.pad_token_id,
            graphs=self.graphs,
            constant_shapes=self._limits.constant_shapes,
            prompt_shape=self._limits.shape,
        )

    @torch.inference_mode()
    def _prefill(self, requests: Sequence[PendingRequest]) -> list[Running]:
        assert self._batch is not None
        self._num_requests += len(requests)
        with self._compiled_layers() or nullcontext():
            finished = self._batch.prefill(requests, self.media.model_inputs)
        forget_images(requests)
        return finished

    @torch.inference_mode()
    def _decode(self) -> list[Running]:
        assert self._batch is not None
        has_room = len(self._batch) < min(self._batch.rows, self._limits.rows)
        self._batch.choose_rows(can_refill=has_room and any(map(self._batch.can_hold, list(self._pending))))
        fused = self._fused
        with fused or nullcontext():
            capture = fused is None or not fused.is_checking
            finished = self._batch.decode(capture=capture, stop=self._stop, meanwhile=self._encode_ahead)
        if fused is not None:
            fused.is_checking = False
        return finished

    def _encode_ahead(self) -> None:
        if self.media.encodes_ahead:
            self.media.encode_ahead(self._pending[: max(1, self._limits.rows // _REFILL_SHARE)])

    def generate_batch(self, requests: Sequence[PendingRequest]) -> list[list[int]]:
        """Answer requests together in the caller's thread, while the session is idle. Return their new tokens."""
        self._batch = self._batch_for(requests)
        finished = self._prefill(requests)
        while self._batch:
            finished += self._decode()
        tokens = {id(running.pending): running.answer.tokens for running in finished}
        return [tokens[id(pending)] for pending in requests]

    def _compiled_layers(self) -> FusedLayers | None:
        """Return the compiled parts of the model, once so many requests have come that compiling saves time."""
        enough = _BATCHES_BEFORE_COMPILING * self._planned.rows
        if self.can_fuse and self._fused is None and self._num_requests > enough:
            self._fused = FusedLayers(self.model.model.language_model, self._report, compile_region)
            if self._batch is not None:
                self._batch.forget_graph()
        return self._fused

    def _send_replies(self, finished: Sequence[Running]) -> None:
        """Send replies. After some, double limits that an OOM has lowered: another program may have used the memory."""
        self._num_oom = 0
        for running in finished:
            self._results.put(self._reply(running))
        self._replies_since_oom += len(finished)
        if self._limits != self._planned and self._replies_since_oom >= _BATCHES_TO_GROW * self._limits.rows:
            self._limits = replace(self._limits, rows=min(self._planned.rows, 2 * self._limits.rows))
            self._replies_since_oom = 0

    def _run_with_oom_retry(self, work: Callable[[], list[Running]], requests: Sequence[PendingRequest] = ()) -> None:
        """Run `work`. If memory runs out, put `requests`, which `work` prefills, back into the queue.

        The first time in succession, only cached memory is freed. Then fewer frames are encoded at a time, then fewer
        requests run at a time, and the youngest return to the queue. A request that alone needs too much memory fails.
        """
        try:
            return self._send_replies(work())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: the error's stack frames keep tensors alive.
        assert self._batch is not None
        self._num_oom, was_encoding, self.media.is_encoding = self._num_oom + 1, self.media.is_encoding, False
        if self._num_oom == 1:
            pass
        elif was_encoding and self.vision.chunk > 1:
            self.vision.chunk //= 2
        elif len(self._batch) + len(requests) == self._batch.rows == 1:
            [pending] = requests or self._batch.evict(1)
            advice = "out of memory even in a batch of one file: use fewer --frames, or --quantize 4bit"
            self._results.put(Failed(pending.request.item, advice, pending.request.id))
            requests = ()
        else:
            if not requests:
                requests = self._batch.evict(len(self._batch) - len(self._batch) // 2)
                rows = len(self._batch)
            else:
                rows = len(self._batch) + len(requests) // 2
            self._limits, self._replies_since_oom = replace(self._limits, rows=max(1, min(self._limits.rows, rows))), 0
        with self._request_added:
            self._pending[:0] = requests
            forget_images(self._pending)
        if not self._batch:
            self._batch = None
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _reply(self, running: Running) -> Reply:
        pending, answer = running.pending, running.answer
        assert answer.finish_reason is not None
        text = self._processor.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        if self._stops.newlines:
            text = " " * text[:1].isspace() * bool(pending.request.begin) + first_line(text)
        return Reply(
            request_id=pending.request.id,
            text=prepend_begin(pending.request.begin, text),
            finish_reason=answer.finish_reason,
            prompt_tokens=len(pending.tokens),
            new_tokens=len(answer.tokens),
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
