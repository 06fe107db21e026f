"""Generates the answers to a batch of prompts: one prefill, then one decode step per token.

transformers' `generate` synchronizes with the device after every token and rebuilds its inputs each time. On a GPU,
launching kernels then takes most of a step. Here the inputs of a step stay on the device, the KV cache is allocated
once, and on CUDA the step is captured as a graph once per batch and replayed.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from .vision import encoded_images

# Steps between two checks whether all rows have ended. On an accelerator each check waits for all launched kernels.
EOS_CHECK_INTERVAL = {"cpu": 1}
DEFAULT_EOS_CHECK_INTERVAL = 8


class KVCacheLayer(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, columns, width]: the prompt's columns, then one column per new token.

    A layer with a sliding window keeps only the prompt columns that the first new token can see. No column ever moves.
    """

    def __init__(self, window: int | None, capacity: int, cache_position: torch.Tensor) -> None:
        """cache_position: int64 [1], the number of new columns. The caller increments it."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._window, self._capacity, self.cache_position = window, capacity, cache_position
        self.prompt_length = 0
        self.visible_length: int | None = None  # columns that attention reads; None: all

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        columns = key_states.shape[2]
        cached = columns if self._window is None else min(columns, self._window - 1)
        self.keys, self.values = (
            torch.nn.functional.pad(states[:, :, columns - cached :], (0, 0, 0, self._capacity))
            for states in (key_states, value_states)
        )
        # If the model is spread over several devices, this is a copy for this layer's device.
        self.cache_position = self.cache_position.to(key_states.device)
        self.prompt_length, self.is_initialized = cached, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:  # the prompt attends to all of itself, with its own mask
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        assert self.keys is not None and self.values is not None
        column = self.cache_position + self.prompt_length
        self.keys.index_copy_(2, column, key_states)
        self.values.index_copy_(2, column, value_states)
        return self.keys[:, :, : self.visible_length], self.values[:, :, : self.visible_length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # called for the prompt only: decode steps pass their own masks

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class DecodeRunner:
    """Runs the prefill and the decode steps. `capture_failed` is True if CUDA cannot capture the step as a graph."""

    _stream: torch.cuda.Stream | None = None  # all graphs are captured on this stream

    def __init__(self, model: Any, prompt_mask: torch.Tensor, max_new_tokens: int, *, graph: bool) -> None:
        """prompt_mask: bool [rows, columns], False for left padding. graph: capture the step as a CUDA graph."""
        self._model = model
        self._mask = prompt_mask
        self._use_cuda_graph = self._capture_pending = graph
        self._cuda_graph: torch.cuda.CUDAGraph | None = None
        self.capture_failed = False
        device = prompt_mask.device
        text = model.config.get_text_config()
        self._cache_position = torch.zeros(1, dtype=torch.long, device=device)
        self._num_steps = 0  # the same count on the host
        self._tokens = torch.zeros((len(prompt_mask), 1), dtype=torch.long, device=device)
        self._positions = prompt_mask.sum(-1, keepdim=True)
        self._capacity = max(1, max_new_tokens - 1)  # the last token is never an input
        self._windows = {"full_attention": None, "sliding_attention": text.sliding_window}
        self._layer_types = list(text.layer_types)
        self._layers = [
            KVCacheLayer(self._windows[kind], self._capacity, self._cache_position) for kind in self._layer_types
        ]
        self.cache = Cache(layers=[*self._layers])

    def prefill(self, input_ids: torch.Tensor, images: Mapping[str, Any]) -> torch.Tensor:
        """Return the first new token's logits, [rows, vocabulary]. images: the output of `Family.vision_inputs`."""
        with encoded_images(self._model, images) as inputs:
            output = self._model(
                input_ids=input_ids,
                attention_mask=self._mask.long(),
                position_ids=(self._mask.cumsum(-1) - 1).clamp(min=0),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
                **inputs,
            )
        self._cache_positions = list(
            {id(n): n for n in (self._cache_position, *(layer.cache_position for layer in self._layers))}.values()
        )
        self._padding_masks = {
            kind: self._padding_mask(self._layers[self._layer_types.index(kind)]) for kind in set(self._layer_types)
        }
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map the latest tokens, int64 [rows], to logits, [rows, vocabulary]. The next call overwrites them."""
        self._tokens.copy_(tokens[:, None])
        self._num_steps += 1
        if self._cuda_graph is not None:
            self._cuda_graph.replay()
            return self._logits
        logits = self.forward()
        if self._capture_pending:
            self._capture_pending = False
            self._capture()
        return logits

    def forward(self) -> torch.Tensor:
        """Run one decode step. It never synchronizes with the host."""
        if not self._use_cuda_graph:
            for layer in self._layers:
                layer.visible_length = layer.prompt_length + self._num_steps
        output = self._model(
            input_ids=self._tokens,
            attention_mask={kind: self._step_mask(kind) for kind in self._padding_masks},
            position_ids=self._positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self._positions += 1
        for position in self._cache_positions:
            position += 1
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def _capture(self) -> None:  # runs on CUDA only
        """Capture the step. `torch.cuda.graph` empties the caches each time and does not clean up a failed capture."""
        DecodeRunner._stream = DecodeRunner._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        here, pool, graph = torch.cuda.current_stream(), torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
        DecodeRunner._stream.wait_stream(here)
        try:
            with torch.cuda.stream(DecodeRunner._stream):
                graph.capture_begin(pool=pool)
                try:
                    self._logits = self.forward()
                finally:
                    graph.capture_end()
        except RuntimeError:  # a kernel synchronizes with the host: run without a graph
            self.capture_failed = True
            torch.cuda.synchronize()
            for cleanup in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with suppress(RuntimeError, AttributeError):
                    getattr(torch._C, cleanup)(self._mask.device.index, pool)
            return
        here.wait_stream(DecodeRunner._stream)
        self._cuda_graph = graph

    def _padding_mask(self, layer: KVCacheLayer) -> tuple[int, torch.Tensor]:
        """Return (number of prompt columns, bool [rows, columns]: False for padding)."""
        cached = layer.prompt_length
        new = self._mask.new_ones((len(self._mask), self._capacity))
        return cached, torch.cat([self._mask[:, self._mask.shape[1] - cached :], new], dim=1)

    def _step_mask(self, kind: str) -> torch.Tensor:
        """Return bool [rows, 1, 1, columns]: the columns up to this step, within the sliding window."""
        cached, base = self._padding_masks[kind]
        if not self._use_cuda_graph:
            base = base[:, : cached + self._num_steps]
        columns = torch.arange(base.shape[1], device=base.device)
        now = self._cache_position + cached
        visible = columns <= now
        if (window := self._windows[kind]) is not None:
            visible = visible & (columns > now - window)
        return (base & visible)[:, None, None]


def generate(
    runner: DecodeRunner,
    first_logits: torch.Tensor,
    *,
    sample: Callable[[torch.Tensor], torch.Tensor],
    eos_token_ids: torch.Tensor,
    limits: Sequence[int],
    pad_token_id: int,
    stopping_criteria: Callable[[torch.Tensor], torch.Tensor] | None,
    stop: threading.Event,
) -> list[list[int]]:
    """Decode until every row has ended. Return the new tokens of each row with its end token, padded to the longest.

    Args:
        first_logits: [rows, vocabulary], from the prefill.
        sample: Maps logits [rows, vocabulary] to tokens [rows].
        eos_token_ids: The token ids that end a row.
        limits: The maximum number of new tokens of each row.
        stopping_criteria: Maps tokens [rows] to bool [rows]: rows that end with this token.
        stop: When set, decoding stops within one token.
    """
    device = first_logits.device
    check_interval = EOS_CHECK_INTERVAL.get(device.type, DEFAULT_EOS_CHECK_INTERVAL)
    limit = torch.tensor(limits, device=device)
    generated = torch.full((len(limits), max(limits)), pad_token_id, dtype=torch.long, device=device)
    finished = torch.zeros(len(limits), dtype=torch.bool, device=device)
    tokens = sample(first_logits)
    for step in range(max(limits)):
        generated[:, step] = tokens
        finished = finished | torch.isin(tokens, eos_token_ids) | (limit <= step + 1)
        if stopping_criteria is not None:
            finished = finished | stopping_criteria(tokens)
        if step + 1 == max(limits) or stop.is_set():
            break
        if step % check_interval == check_interval - 1 and bool(finished.all()):
            break
        tokens = torch.where(finished, pad_token_id, sample(runner(tokens)))
    return generated[:, : step + 1].tolist()
