"""Gemma 3 through transformers, on this machine.

One thread owns the model: it takes what waits, batches it whatever the frame counts, and answers. Frames arrive as
uint8 and are normalised on the device; the vision tower runs over them in chunks of its own.
"""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import torch
import transformers
from transformers import AutoProcessor, GenerationConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..errors import ModelError, UsageError
from ..records import Failed, Reply, Request
from ..settings import Settings
from . import checkpoint as checkpoints
from . import hardware, memory
from .base import EngineSpec
from .decoding import LineEnds, RowSampling, Told, ending, first_line
from .loading import load_model
from .memory import VISION_CHUNK, Architecture, MemoryPlan
from .prompting import prompt_text

_MARKERS = 4  # tokens around an image's own: line breaks, start, end, line breaks
_SLOW_ON_A_CPU_BYTES = 1 << 30
_PROMPT_ALLOWANCE = 512  # tokens of text that the memory plan leaves room for


class LocalEngine:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def checkpoint(self) -> checkpoints.Checkpoint:
        return checkpoints.locate(self._settings.model.model, self._settings.model.hf_token)

    @cached_property
    def processor(self) -> Any:
        with checkpoints.explained(self.checkpoint.name, self.checkpoint.token):
            return AutoProcessor.from_pretrained(self.checkpoint.folder, local_files_only=True, backend="pil")

    @cached_property
    def config(self) -> Any:
        with checkpoints.explained(self.checkpoint.name, self.checkpoint.token):
            return transformers.AutoConfig.from_pretrained(self.checkpoint.folder, local_files_only=True)

    @cached_property
    def spec(self) -> EngineSpec:
        self._check_prompts()
        size = self.processor.image_processor.size
        return EngineSpec(
            size=(size["width"], size["height"]),
            image_tokens=self.processor.image_seq_length + _MARKERS,
            context=self.config.get_text_config().max_position_embeddings,
            model=self.checkpoint.name,
            revision=self.checkpoint.revision,
        )

    def _check_prompts(self) -> None:
        """Raises `UsageError` for a prompt that would be taken for frames that are not there."""
        tokenizer = self.processor.tokenizer
        for prompt in self._settings.prompts.values():
            for token in (tokenizer.image_token, tokenizer.eoi_token):
                if token in prompt:
                    raise UsageError(f"the prompt holds {token}, which the model takes for an image: leave it out")
            if prompt.count(tokenizer.boi_token) > 1:
                raise UsageError(f"the prompt holds {tokenizer.boi_token} more than once: all frames go to one place")

    @cached_property
    def device(self) -> str:
        return hardware.choose_device(self._settings.model.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        return hardware.choose_dtype(self._settings.model, self.device, _name(self.config.dtype))

    @cached_property
    def memory_plan(self) -> MemoryPlan:
        settings = self._settings
        longest = max(settings.max_new_tokens("image"), settings.max_new_tokens("clip"))
        chosen = memory.plan(
            Architecture.of(self.config),
            name=self.checkpoint.name,
            quantize=settings.model.quantize,
            device=self.device,
            dtype_bytes=self.dtype.itemsize,
            available=hardware.free_memory(self.device),
            request_tokens=settings.sampling.frames * self.spec.image_tokens + _PROMPT_ALLOWANCE + longest,
        )
        if chosen.precision != "none" and find_spec("bitsandbytes") is None:  # before a download, not after it
            raise ModelError(
                f"{self.checkpoint.name} in {chosen.precision} needs bitsandbytes: "
                "pip install 'gemma-captioner[quantize]'"
            )
        return chosen

    def describe(self) -> str:
        precision = {"none": _name(self.dtype), "8bit": "8-bit", "4bit": "4-bit"}[self.memory_plan.precision]
        said = f"{self.checkpoint.name} in {precision}, {self.memory_plan}"
        if self.device == "cpu" and self.memory_plan.weights > _SLOW_ON_A_CPU_BYTES:
            said += f"\n{hardware.cpu_only_torch() or 'No GPU is here'}. On a CPU this takes minutes a file."
        return said

    def prompt_tokens(self, prompt: str, num_frames: int) -> int:
        return len(tokens_of(self.processor, prompt, (0.0,) * num_frames, self._settings))

    def open(self) -> "LocalSession":
        plan = self.memory_plan  # it reads the description, too: what is broken in it is told before a long download
        checkpoints.fetch_weights(self.checkpoint)
        model = load_model(self.checkpoint, device=self.device, dtype=self.dtype, precision=plan.precision)
        return LocalSession(self, model, plan, self._settings)


def tokens_of(processor: Any, prompt: str, times_s: Sequence[float], settings: Settings) -> list[int]:
    """Prompt token ids, each frame as its run of image tokens: what transformers' own processor makes of it."""
    text = prompt_text(
        processor,
        prompt,
        num_images=len(times_s),
        order=settings.prompting.order,
        times_s=times_s if settings.sampling.timestamps and len(times_s) > 1 else (),
    )
    text = text.replace(processor.boi_token, processor.full_image_sequence)
    special = not text.startswith(processor.tokenizer.bos_token)  # a chat template writes it itself
    return list(processor.tokenizer(text, add_special_tokens=special)["input_ids"])


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

    def __init__(self, engine: LocalEngine, model: Any, plan: MemoryPlan, settings: Settings) -> None:
        self.model = model
        self._processor = engine.processor
        self._settings = settings
        self._context = engine.spec.context
        self._tokens_at_once = plan.tokens_at_once
        fixed = settings.model.batch_size
        self._most = plan.most_at_once if fixed == "auto" else fixed
        self._by_tokens = fixed == "auto"
        self._prepare()
        self._unanswered = 0
        self._waiting: list[_Waiting] = []
        self._arrived = threading.Condition()
        self._answers: queue.SimpleQueue[Reply | Failed | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def _prepare(self) -> None:
        tokenizer = self._processor.tokenizer
        images = self._processor.image_processor
        device = self.model.device
        self._ends = sorted({tokenizer.eos_token_id, *self._chat_ends()})
        # All 256 pixel values through the processor's own arithmetic: what it would make of them, to the last bit.
        levels = np.arange(256, dtype=np.float64) * images.rescale_factor
        mean, std = (np.array(x, dtype=np.float32)[:, None] for x in (images.image_mean, images.image_std))
        table = (levels.astype(np.float32)[None] - mean) / std
        self._levels = torch.from_numpy(table).to(device)  # float32 [3, 256]
        self._breaks: torch.Tensor | None = None
        if self._processor.chat_template is None:
            pieces = [tokenizer.decode([i]) for i in range(self.model.config.get_text_config().vocab_size)]
            self._breaks = torch.tensor(["\n" in p for p in pieces], device=device)
            self._blanks = torch.tensor([not p.strip() for p in pieces], device=device)
        self._break_ids: set[int] = set() if self._breaks is None else set(_where(self._breaks))
        self._blank_ids: set[int] = set() if self._breaks is None else set(_where(self._blanks))

    def _chat_ends(self) -> list[int]:
        """<end_of_turn> for a checkpoint that was taught turns; its generation config may name more."""
        ends = self.model.generation_config.eos_token_id or []
        ends = [ends] if isinstance(ends, int) else list(ends)
        self.model.generation_config = GenerationConfig()  # a checkpoint's sampling habits are not ours
        end_of_turn = self._processor.tokenizer.convert_tokens_to_ids("<end_of_turn>")
        return ends if end_of_turn in (None, self._processor.tokenizer.unk_token_id) else [*ends, end_of_turn]

    # The contract

    @property
    def free(self) -> int:
        return max(0, 2 * self._most - self._unanswered)  # one batch in work, one waiting

    def submit(self, request: Request) -> None:
        self._unanswered += 1
        tokens = tokens_of(self._processor, request.prompt, request.frames.times_s, self._settings)
        waiting = _Waiting(request, tokens, time.monotonic())
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
                for answer in self._answer_or_halve(batch):
                    self._answers.put(answer)
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

    def _answer_or_halve(self, batch: list[_Waiting]) -> list[Reply | Failed]:
        try:
            return self._answer(batch)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            # leave the handler first: the error's frames hold the tensors that are to be freed
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            advice = "out of memory for this one alone: use fewer --frames, or --quantize 4bit"
            return [Failed(batch[0].request.item, advice, batch[0].request.id)]
        self._most = half = len(batch) // 2  # remembered: what was too much once is not tried again
        return self._answer_or_halve(batch[:half]) + self._answer_or_halve(batch[half:])

    @torch.inference_mode()
    def _answer(self, batch: list[_Waiting]) -> list[Reply | Failed]:
        device, pad = self.model.device, self._processor.tokenizer.pad_token_id
        longest = max(len(w.tokens) for w in batch)
        rows = [[pad] * (longest - len(w.tokens)) + w.tokens for w in batch]
        input_ids = torch.tensor(rows, device=device)
        blank = [[0] * (longest - len(w.tokens)) + [1] * len(w.tokens) for w in batch]
        requests = [w.request for w in batch]
        features = self._encode(np.concatenate([r.frames.pixels for r in requests]))
        criteria: list[Any] = [Told(self._stop)]
        if self._breaks is not None:
            criteria.append(LineEnds(self._breaks, self._blanks, len(batch)))
        processors = []
        if any(r.temperature > 0 for r in requests):
            sampling = RowSampling([r.temperature for r in requests], [r.seed for r in requests], device)
            processors.append(sampling)
        sequences = self.model.generate(
            input_ids=input_ids,
            attention_mask=torch.tensor(blank, device=device),
            token_type_ids=(input_ids == self.model.config.image_token_id).long(),
            mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=features)},
            generation_config=GenerationConfig(
                max_new_tokens=max(r.max_new_tokens for r in requests),
                do_sample=False,
                eos_token_id=self._ends,
                pad_token_id=pad,
            ),
            stopping_criteria=criteria,
            logits_processor=processors,
        )
        if self._stop.is_set():
            return []
        return [self._reply(w, new) for w, new in zip(batch, sequences[:, longest:].tolist(), strict=True)]

    def _encode(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
        """uint8 [n, height, width, 3] -> features [n, tokens an image, hidden]."""
        features = []
        for start in range(0, len(pixels), VISION_CHUNK):
            chunk = torch.from_numpy(pixels[start : start + VISION_CHUNK]).to(self.model.device)
            values = self.normalised(chunk).to(self.model.dtype)
            features.append(self.model.get_image_features(values).pooler_output)
        return torch.cat(features)

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [n, height, width, 3] -> float32 [n, 3, height, width], as the checkpoint's processor makes it."""
        return torch.stack([self._levels[c][pixels[..., c].int()] for c in range(3)], dim=1)

    def _reply(self, waiting: _Waiting, new: list[int]) -> Reply:
        limit = waiting.request.max_new_tokens
        end = ending(new[:limit], self._ends, self._break_ids, self._blank_ids)
        text = self._processor.tokenizer.decode(new[: end.length], skip_special_tokens=True)
        return Reply(
            request_id=waiting.request.id,
            text=first_line(text) if self._breaks is not None else text,
            finish_reason=end.finish_reason,
            prompt_tokens=len(waiting.tokens),
            new_tokens=end.length,
            seconds=time.monotonic() - waiting.since,
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """torch has a class of its own for CUDA; the CPU's and Apple's allocators raise a plain RuntimeError."""
    said = str(error)
    own = "can't allocate memory" in said or "MPS backend out of memory" in said
    return own or isinstance(error, torch.OutOfMemoryError)


def _padded_tokens(batch: list[_Waiting]) -> int:
    longest = max(len(w.tokens) for w in batch) + max(w.request.max_new_tokens for w in batch)
    return len(batch) * longest


def _where(mask: torch.Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero().flatten().tolist()]


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
