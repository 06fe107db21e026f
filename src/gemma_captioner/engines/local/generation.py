"""Runs the model: reads prompts into rows of the KV cache, and adds one token to each row per decode step.

transformers' `generate` synchronizes with the device after every token and rebuilds its inputs each time. On a GPU,
launching kernels then takes most of a step. Here the inputs of a step stay on the device, the KV cache is allocated
once for many requests, and on CUDA the step is captured as a graph and replayed.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .audio import encoded_audio
from .graphs import GraphPool
from .kv_cache import KVCache
from .vision import encoded_images


class DecodeRunner:
    """Runs prefills and decode steps. It knows rows of tokens, not requests."""

    def __init__(
        self, model: Any, rows: int, columns: int, *, graphs: GraphPool | None = None, constant_shapes: bool = False
    ) -> None:
        """Prepare a KV cache. Its memory is allocated by the first prefill.

        Args:
            model: The transformers model.
            rows: The maximum number of requests at a time.
            columns: The maximum number of tokens of a prompt and its answer.
            graphs: Captures the step as a CUDA graph while it is enabled. This requires constant shapes.
            constant_shapes: Attention reads the whole cache in every step. Otherwise, it reads what is filled.
        """
        self._model, self._graphs = model, graphs
        self._device = model.device
        self.cache = KVCache(
            model.config.get_text_config(), rows, columns, self._device, constant_shapes=constant_shapes
        )
        # transformers 5.24 renamed `past_key_values`.
        name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
        self._cache_argument = {name: self.cache.layers}
        self._tokens = torch.zeros((rows, 1), dtype=torch.long, device=self._device)
        self._capture_was_tried = False  # with this number of rows
        self._captured: tuple[torch.cuda.CUDAGraph, torch.Tensor] | None = None
        self._active = 0
        self._longest = 0  # at least the number of tokens of every active row

    def prefill(
        self, rows: Sequence[int], input_ids: torch.Tensor, prompt_mask: torch.Tensor, media: Mapping[str, Any]
    ) -> torch.Tensor:
        """Read prompts into rows of the cache. Return the logits of the first new tokens, [n, vocabulary].

        Args:
            rows: n rows. What they held is replaced.
            input_ids: int64 [n, columns], padded on the left.
            prompt_mask: bool [n, columns], False for padding.
            media: The output of `Family.vision_inputs`, and of `AudioEncoder.embed_audio` if there is sound.
        """
        self.cache.begin_prefill(torch.tensor(rows, device=self._device), prompt_mask)
        self._longest = max(self._longest, input_ids.shape[1])
        self._capture_was_tried = self._captured is not None  # memory may suffice now
        with (
            encoded_images(self._model, media) as with_images,
            encoded_audio(self._model, with_images) as inputs,
            _no_cudnn_attention(),
        ):
            output = self._model(
                input_ids=input_ids,
                attention_mask=prompt_mask.long(),
                position_ids=(prompt_mask.cumsum(-1) - 1).clamp(min=0),
                **self._cache_argument,
                use_cache=True,
                logits_to_keep=1,
                **inputs,
            )
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def use_rows(self, active: int, longest: int) -> None:
        """Let steps run the first `active` rows, of which `longest` is the number of tokens of the longest."""
        if active != self._active:
            self.forget_graph()
        self._active, self._longest = active, longest

    def forget_graph(self) -> None:
        """Capture the next step anew."""
        self._captured, self._capture_was_tried = None, False

    def set_tokens(self, rows: Sequence[int], tokens: torch.Tensor) -> None:
        """Set the input of the next step for some rows. tokens: int64 [n], the first new token of each."""
        self._tokens[torch.tensor(rows, device=self._device), 0] = tokens

    def move(self, source: int, target: int) -> None:
        """Copy a row over another one."""
        self.cache.move(source, target)
        self._tokens[target] = self._tokens[source]

    def step(self, *, capture: bool = True) -> torch.Tensor:
        """Run one decode step. Return logits, [active rows, vocabulary], which the next step overwrites.

        capture: Whether the step may be captured for those that follow.
        """
        self._longest += 1
        if self._captured is not None:
            graph, logits = self._captured
            graph.replay()
            return logits
        logits = self.forward()
        if capture and self._graphs is not None and self._graphs.enabled and not self._capture_was_tried:
            self._capture_was_tried = True
            self._captured = self._graphs.capture(self.forward)
        return logits

    def accept(self, tokens: torch.Tensor) -> None:
        """Take the new tokens of a step, int64 [active rows], as the input of the next one.

        Until then, the step can run again.
        """
        self._tokens[: self._active, 0] = tokens
        self.cache.lengths[: self._active] += 1

    def forward(self) -> torch.Tensor:
        """Run one decode step. It never synchronizes with the host."""
        active = self._active
        self.cache.begin_step(active, self._longest)
        with _no_cudnn_attention():
            output = self._model(
                input_ids=self._tokens[:active],
                attention_mask=self.cache.step_masks(),
                position_ids=self.cache.lengths[:active, None],
                **self._cache_argument,
                use_cache=True,
            )
        return output.logits[:, -1]  # type: ignore[no-any-return]


@contextmanager
def _no_cudnn_attention() -> Iterator[None]:
    """Turn off cuDNN's attention, which plans 23 to 37 ms for every new shape of a batch."""
    enabled = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)
