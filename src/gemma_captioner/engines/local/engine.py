"""The local engine: knows a checkpoint's properties before it reads any weight, then loads it through transformers."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...config.settings import Settings
from ...errors import ModelError, UsageError
from ...imports import finish_imports, skip_unused_imports, start_imports
from ...prompts.context import ContextEntry, entries_of_kind
from ...types import AUDIO_RATE, Kind, PatchBudget, Size
from ..base import EngineSpec
from ..sound import plan_sound
from . import adapter as adapters
from . import checkpoint as checkpoints
from . import hardware
from .auto import warning_without_gpu
from .config import ModelConfig, read_config
from .families import FAMILIES, Family
from .memory import Architecture, MemoryPlan
from .processor import Processor
from .prompting import Turn, TurnMedia, encode_prompt
from .quantized import stored_precision

if TYPE_CHECKING:  # it imports torch and transformers, which takes seconds
    from .session import LocalSession

_MARKER_TOKENS = 8  # the maximum number of tokens around an image: line breaks, start, end, timestamp
_PROMPT_ALLOWANCE = 512  # tokens that the memory plan reserves for the values of template variables


class LocalEngine:
    def __init__(
        self,
        settings: Settings,
        context: Sequence[ContextEntry] = (),
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Read nothing yet.

        Args:
            settings: The run's settings.
            context: What precedes the items in requests. Token counts and the memory plan include it.
            log: Receives lines for the user, called by the thread that polls the session.
        """
        self._settings = settings
        self._context_entries = context
        self._log = log

    @cached_property
    def checkpoint(self) -> checkpoints.Checkpoint:
        return checkpoints.resolve_checkpoint(self._settings.model.model, self._settings.model.hf_token)

    @cached_property
    def adapter(self) -> adapters.Adapter | None:
        name = self._settings.model.adapter
        return None if name is None else adapters.resolve_adapter(name, self._settings.model.hf_token)

    @property
    def name(self) -> str:
        return self.checkpoint.name + (f" + {self.adapter.name}" if self.adapter else "")

    @cached_property
    def processor(self) -> Processor:
        with checkpoints.map_loading_errors(self.checkpoint.name, self.checkpoint.token):
            return self.family.load_processor(self.checkpoint.folder)

    @property
    def family(self) -> Family:
        return FAMILIES[self.checkpoint.family]

    @cached_property
    def config(self) -> ModelConfig:
        with checkpoints.map_loading_errors(self.checkpoint.name, self.checkpoint.token):
            return read_config(self.checkpoint.config)

    @property
    def spec(self) -> EngineSpec:
        """With the preferred batch size as soon as the memory plan is made."""
        if "memory_plan" not in self.__dict__:
            return self._static_spec
        plan, asked = self.memory_plan, self._settings.model.batch_size
        fitting = min(plan.max_batch_size, plan.max_batch_tokens // self._longest_request)
        return replace(self._static_spec, preferred_batch_size=2 * (fitting if asked == "auto" else asked))

    @cached_property
    def _static_spec(self) -> EngineSpec:
        self._check_prompts()
        size, clip_size = (self.family.frame_size(self.processor, self._settings, kind) for kind in ("image", "clip"))
        return EngineSpec(
            size=size,
            clip_size=clip_size,
            tokens_per_frame={"image": self._max_tokens_per_frame(size), "clip": self._max_tokens_per_frame(clip_size)},
            context_length=self.config.text.max_position_embeddings,
            model=self.name,
            revision=self.checkpoint.revision + (f" + {self.adapter.revision}" if self.adapter else ""),
            max_audio_s=self.processor.max_audio_samples / AUDIO_RATE if self._takes_sound else 0.0,
            audio_tokens_per_second=self._audio_tokens(AUDIO_RATE) if self._takes_sound else 0,
        )

    @property
    def _takes_sound(self) -> bool:
        has_token = "audio_token" in self.processor.tokenizer.special_tokens
        return self.family.audio is not None and self.config.audio is not None and has_token

    def _audio_tokens(self, samples: int) -> int:
        assert self.family.audio is not None
        return self.family.audio.soft_tokens(samples)

    def _max_image_tokens(self) -> int:
        """Return the token budget of an image or frame; 0 if the model has none."""
        sizes = (self._static_spec.size, self._static_spec.clip_size)
        return max(size.tokens if isinstance(size, PatchBudget) else 0 for size in sizes)

    def _max_tokens_per_frame(self, size: Size) -> int:
        if isinstance(size, PatchBudget):
            return size.tokens + _MARKER_TOKENS
        return self.family.soft_tokens(self.processor, size[1], size[0]) + _MARKER_TOKENS

    def _check_prompts(self) -> None:
        """Raise `UsageError` if a prompt or --begin contains a token that the model would read as an image."""
        tokenizer = self.processor.tokenizer
        marker = self.family.marker(self.processor)
        sound = tokenizer.audio_token if self._takes_sound else None
        begin = self._settings.prompting.begin
        if marker in begin:
            raise UsageError(f"--begin contains {marker}, which the model reads as an image: remove it")
        for prompt in {begin, *(prompt for prompts in self._settings.prompts.values() for prompt in prompts)}:
            for token in {tokenizer.image_token, tokenizer.boi_token, tokenizer.eoi_token} - {marker}:
                if token in prompt:
                    raise UsageError(f"the prompt contains {token}, which the model reads as an image: remove it")
            if sound is not None and sound in prompt:
                raise UsageError(f"the prompt contains {sound}, which the model reads as sound: remove it")
            if prompt.count(marker) > 1:
                raise UsageError(f"the prompt contains {marker} more than once: keep one, for all frames")

    @cached_property
    def device(self) -> str:
        return hardware.choose_device(self._settings.model.device)

    @cached_property
    def dtype(self) -> hardware.Dtype:
        return hardware.choose_dtype(self._settings.model, self.device, self.config.dtype)

    @cached_property
    def _longest_request(self) -> int:
        """The maximum number of tokens of a prompt, without the values of its variables, and an answer."""
        settings = self._settings
        longest = max(settings.max_new_tokens("image"), settings.max_new_tokens("clip"))
        return longest + max(
            self.prompt_tokens(prompt, kind, settings.frames(kind)) + settings.previous_tokens(prompt, kind)
            for kind, prompts in settings.prompts.items()
            for prompt in prompts
        )

    @cached_property
    def memory_plan(self) -> MemoryPlan:
        settings = self._settings
        parameter_counts = None if self.family.count_parameters is None else self.family.count_parameters(self.config)
        plan = hardware.plan_memory(
            Architecture.of(self.config, parameter_counts, self._max_image_tokens()),
            settings.model,
            name=self.checkpoint.name,
            device=self.device,
            dtype=self.dtype,
            request_tokens=self._longest_request + _PROMPT_ALLOWANCE,
            stored=stored_precision(self.checkpoint, settings.model.quantize, self.device, self.dtype),
        )
        uses_bitsandbytes = plan.precision != "none" and not plan.is_stored
        if uses_bitsandbytes and find_spec("bitsandbytes") is None:  # checked before the download
            raise ModelError(
                f"{self.checkpoint.name} with --quantize {plan.precision} requires bitsandbytes: "
                "pip install 'gemma-captioner[quantize]'"
            )
        return plan

    def describe(self) -> str:
        precision = {"none": self.dtype, "8bit": "8-bit", "4bit": "4-bit"}[self.memory_plan.precision]
        precision += " (as stored)" if self.memory_plan.is_stored else ""
        description = f"{self.name} in {precision}, {self.memory_plan}"
        if self.dtype == "bfloat16" and not hardware.has_bf16(self.device):
            description += "\nThis GPU has no bf16 and emulates it slowly: use one of compute capability 8.0 or newer."
        return description

    @property
    def warning(self) -> str | None:
        """What to expect of this model on this machine, known before anything is downloaded."""
        return warning_without_gpu(self._settings.model.model, self.device)

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        def media(label: str, kind: Kind | None, num_frames: int) -> TurnMedia:
            if kind is None:
                return TurnMedia(label)
            soft_tokens = self._static_spec.tokens_per_frame[kind] - _MARKER_TOKENS
            sound = audio_tokens if kind == "clip" and num_frames else 0
            return TurnMedia(label, [soft_tokens] * num_frames, (0.0,) * num_frames, sound)

        seconds = plan_sound(self._settings, self._static_spec).max_s
        audio_tokens = self._audio_tokens(math.ceil(seconds * AUDIO_RATE)) if seconds else 0
        turns, labeled = [], []
        for entry in entries_of_kind(self._context_entries, kind):
            shown = media(entry.text, entry.kind, self._settings.frames(entry.kind or kind))
            if entry.answer is None:
                labeled.append(shown)
            else:
                turns.append(Turn(prompt, [shown], entry.answer))
        asked = Turn(prompt, [*labeled, media("", kind, num_frames)], begin=self._settings.prompting.begin.strip())
        return len(encode_prompt(self.family, self.processor, [*turns, asked], self._settings))

    def prepare(self) -> Callable[[], None]:
        """Begin to import what `open` needs, while files are decoded. Return a function that waits for it."""
        start_imports(self._modules)
        return partial(finish_imports, self._modules)

    def open(self) -> "LocalSession":
        finish_imports(self._modules)
        from .loading import check_config, load_model
        from .session import LocalSession

        plan = self.memory_plan
        check_config(self.checkpoint)  # before a long download
        checkpoints.fetch_weights(self.checkpoint)
        with skip_unused_imports() if plan.precision == "none" else nullcontext():  # quantization uses more of torch
            model = load_model(self.checkpoint, self.dtype, plan, self.adapter)
        return LocalSession(model, self.family, self.processor, self.spec, plan, self._settings, self._log)

    @property
    def _modules(self) -> tuple[str, ...]:
        """The modules that `open` uses and that take long to import."""
        return ("torch", *self.family.modules, f"{__package__}.loading", f"{__package__}.session")
