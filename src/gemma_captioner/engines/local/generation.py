"""A batch of prompts -> the tokens of their answers: one prefill, then a step a token that waits for nothing.

transformers' `generate` asks the device after every token whether all rows have ended, and makes its inputs anew each
time: on a GPU most of a step is then launching kernels. Here what a step needs stays on the device, keys and values
have their room from the start, and on CUDA the step is captured as a graph once a batch and replayed.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from .vision import encoded_images

# How often it is asked whether all rows have ended: on an accelerator each time is a wait for all that is launched.
EOS_CHECK_INTERVAL = {"cpu": 1}
DEFAULT_EOS_CHECK_INTERVAL = 8


class KVCacheLayer(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, columns, width]: the prompt's last, then a column a token.

    A layer with a sliding window keeps what a window reaches back from the first new token; nothing is ever moved.
    """

    def __init__(self, window: int | None, capacity: int, cache_position: torch.Tensor) -> None:
        """cache_position: int64 [1], how many columns were added; the caller counts it up."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._window, self._capacity, self.cache_position = window, capacity, cache_position
        self.prompt_length = 0
        self.visible_length: int | None = None  # so many columns are looked at; None: all

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        columns = key_states.shape[2]
        cached = columns if self._window is None else min(columns, self._window - 1)
        self.keys, self.values = (
            torch.cat(
                [states[:, :, columns - cached :], states.new_zeros(_empty_columns_shape(states, self._capacity))],
                dim=2,
            )
            for states in (key_states, value_states)
        )
        self.cache_position = self.cache_position.to(
            key_states.device
        )  # another one, where a model is spread over several devices
        self.prompt_length, self.is_initialized = cached, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:  # the prompt looks at all of itself, through its own mask
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        assert self.keys is not None and self.values is not None
        column = self.cache_position + self.prompt_length
        self.keys.index_copy_(2, column, key_states)
        self.values.index_copy_(2, column, value_states)
        return self.keys[:, :, : self.visible_length], self.values[:, :, : self.visible_length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # asked of the prompt alone: steps bring their masks

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


def _empty_columns_shape(states: torch.Tensor, columns: int) -> tuple[int, int, int, int]:
    rows, heads, _, width = states.shape
    return rows, heads, columns, width


class DecodeRunner:
    """The model, a token at a time, after a prompt that it has read. capture_failed: no graph can be had of it."""

    _stream: torch.cuda.Stream | None = None  # that graphs are captured on, one for all

    def __init__(self, model: Any, prompt_mask: torch.Tensor, max_new_tokens: int, *, graph: bool) -> None:
        """prompt_mask: bool [rows, columns], False where a row is padded on the left. graph: capture it (CUDA)."""
        self._model = model
        self._mask = prompt_mask
        self._use_cuda_graph = self._capture_pending = graph
        self._cuda_graph: torch.cuda.CUDAGraph | None = None
        self.capture_failed = False
        device = prompt_mask.device
        text = model.config.get_text_config()
        self._cache_position = torch.zeros(1, dtype=torch.long, device=device)
        self._num_steps = 0  # the same on the host
        self._tokens = torch.zeros((len(prompt_mask), 1), dtype=torch.long, device=device)
        self._positions = prompt_mask.sum(-1, keepdim=True)
        self._capacity = max(1, max_new_tokens - 1)  # the last token is not read again
        self._windows = {"full_attention": None, "sliding_attention": text.sliding_window}
        self._layer_types = list(text.layer_types)
        self._layers = [
            KVCacheLayer(self._windows[kind], self._capacity, self._cache_position) for kind in self._layer_types
        ]
        self.cache = Cache(layers=[*self._layers])

    def prefill(self, input_ids: torch.Tensor, images: Mapping[str, Any]) -> torch.Tensor:
        """Logits of the first new token, [rows, vocabulary]. images: what the family's `vision_inputs` makes of them."""
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
        """tokens: int64 [rows], the latest -> logits of the next, [rows, vocabulary], good until the next call."""
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
        """One step by what lies on the device; nothing in it is asked back by the host."""
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

    def _capture(self) -> None:  # not run without CUDA
        """By hand instead of `torch.cuda.graph`: that one empties the caches each time, and leaves them and the stream
        as they were in the middle where a capture fails."""
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
        except RuntimeError:  # some layer's kernel asks the device in its middle: step by step, then
            self.capture_failed = True
            torch.cuda.synchronize()
            for cleanup in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with suppress(RuntimeError, AttributeError):
                    getattr(torch._C, cleanup)(self._mask.device.index, pool)
            return
        here.wait_stream(DecodeRunner._stream)
        self._cuda_graph = graph

    def _padding_mask(self, layer: KVCacheLayer) -> tuple[int, torch.Tensor]:
        """(columns of the prompt, bool [rows, columns]: those that hold no padding)."""
        cached = layer.prompt_length
        ours = self._mask.new_ones((len(self._mask), self._capacity))
        return cached, torch.cat([self._mask[:, self._mask.shape[1] - cached :], ours], dim=1)

    def _step_mask(self, kind: str) -> torch.Tensor:
        """bool [rows, 1, 1, columns]: up to the column of this step, as far back as the window."""
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
    """Each row's new tokens, its end included, padded with `pad_token_id` to the longest.

    sample: logits [rows, vocabulary] -> tokens [rows]. eos_token_ids: ids that end a row. limits: the most tokens of each row.
    stopping_criteria: tokens [rows] -> which rows end with them besides. stop: give up within one token.
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
