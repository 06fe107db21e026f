"""Generates the answers to a batch of prompts: one prefill, then one decode step per token.

transformers' `generate` synchronizes with the device after every token and rebuilds its inputs each time. On a GPU,
launching kernels then takes most of a step. Here the inputs of a step stay on the device, the KV cache is allocated
once, and on CUDA the step is captured as a graph once per batch and replayed.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from .audio import encoded_audio
from .graphs import GraphPool
from .vision import encoded_images

# Steps between two checks whether all rows have ended. On an accelerator each check waits for all launched kernels.
EOS_CHECK_INTERVAL = {"cpu": 1}
DEFAULT_EOS_CHECK_INTERVAL = 8

_COLUMN_MULTIPLE = 8  # CUDA's attention kernel copies a mask of another width in every layer


class KVCacheLayer(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, columns, width]: the prompt's columns, then one column per new token.

    A layer with a sliding window keeps only the prompt columns that the first new token can see. No column ever moves.
    """

    def __init__(self, window: int | None, capacity: int, next_columns: dict[Any, torch.Tensor]) -> None:
        """next_columns: by device and prompt length, the column of the next new token. The caller increments them."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._window, self._capacity, self._next_columns = window, capacity, next_columns
        self.prompt_length = 0
        self.visible_length: int | None = None  # columns that attention reads; None: all

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        columns, device = key_states.shape[2], key_states.device
        cached = columns if self._window is None else min(columns, self._window - 1)
        new_columns = self._capacity + -(cached + self._capacity) % _COLUMN_MULTIPLE
        self.keys, self.values = (
            torch.nn.functional.pad(states[:, :, columns - cached :], (0, 0, 0, new_columns))
            for states in (key_states, value_states)
        )
        self._next_column = _next_column(self._next_columns, device, cached)
        self.prompt_length, self.is_initialized = cached, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:  # the prompt attends to all of itself, with its own mask
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        assert self.keys is not None and self.values is not None
        self.keys.index_copy_(2, self._next_column, key_states)
        self.values.index_copy_(2, self._next_column, value_states)
        return self.keys[:, :, : self.visible_length], self.values[:, :, : self.visible_length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # called for the prompt only: decode steps pass their own masks

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class DecodeRunner:
    """Runs the prefill and the decode steps of one batch."""

    def __init__(
        self,
        model: Any,
        prompt_mask: torch.Tensor,
        max_new_tokens: int,
        *,
        graphs: GraphPool | None = None,
        constant_shapes: bool = False,
    ) -> None:
        """Prepare a batch.

        Args:
            model: The transformers model.
            prompt_mask: bool [rows, columns], False for left padding.
            max_new_tokens: The maximum number of new tokens of any row.
            graphs: Captures the step as a CUDA graph. This requires constant shapes.
            constant_shapes: Attention reads the whole cache in every step. Otherwise, it reads what is filled.
        """
        self._model = model
        self._mask = prompt_mask
        self._constant_shapes = constant_shapes
        self._graphs = graphs
        self._captured: tuple[torch.cuda.CUDAGraph, torch.Tensor] | None = None
        text = model.config.get_text_config()
        self._num_steps = 0
        self._tokens = torch.zeros((len(prompt_mask), 1), dtype=torch.long, device=prompt_mask.device)
        self._positions = prompt_mask.sum(-1, keepdim=True)
        capacity = max(1, max_new_tokens - 1)  # the last token is never an input
        self._windows = {"full_attention": None, "sliding_attention": text.sliding_window}
        self._layer_types = list(text.layer_types)
        self._next_columns: dict[Any, torch.Tensor] = {}
        self._layers = [KVCacheLayer(self._windows[kind], capacity, self._next_columns) for kind in self._layer_types]
        self._step_masks: dict[str, StepMask] = {}
        self.cache = Cache(layers=[*self._layers])

    def prefill(self, input_ids: torch.Tensor, media: Mapping[str, Any]) -> torch.Tensor:
        """Return the first new token's logits, [rows, vocabulary].

        media: The output of `Family.vision_inputs`, and of `AudioEncoder.embed_audio` if there is sound.
        """
        with (
            encoded_images(self._model, media) as with_images,
            encoded_audio(self._model, with_images) as inputs,
            _no_cudnn_attention(),
        ):
            output = self._model(
                input_ids=input_ids,
                attention_mask=self._mask.long(),
                position_ids=(self._mask.cumsum(-1) - 1).clamp(min=0),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
                **inputs,
            )
        self.prepare_steps()
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def prepare_steps(self) -> None:
        """Make the masks of the steps. The cache must hold the prompt."""
        for kind in set(self._layer_types):
            layer = self._layers[self._layer_types.index(kind)]
            next_column = _next_column(self._next_columns, self._mask.device, layer.prompt_length)
            self._step_masks[kind] = StepMask(self._mask, self._windows[kind], layer, next_column)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map the latest tokens, int64 [rows], to logits, [rows, vocabulary]. The next call overwrites them."""
        self._tokens.copy_(tokens[:, None])
        self._num_steps += 1
        if self._captured is not None:
            graph, logits = self._captured
            graph.replay()
            return logits
        logits = self.forward()
        if self._graphs is not None and self._num_steps == 1:
            self._captured = self._graphs.capture(self.forward)
        return logits

    def forward(self) -> torch.Tensor:
        """Run one decode step. It never synchronizes with the host."""
        if not self._constant_shapes:
            for layer in self._layers:
                layer.visible_length = layer.prompt_length + self._num_steps
        with _no_cudnn_attention():
            output = self._model(
                input_ids=self._tokens,
                attention_mask={kind: mask() for kind, mask in self._step_masks.items()},
                position_ids=self._positions,
                past_key_values=self.cache,
                use_cache=True,
            )
        self._positions += 1
        for column in self._next_columns.values():
            column += 1
        return output.logits[:, -1]  # type: ignore[no-any-return]


class StepMask:
    """The mask of a decode step for all layers of one kind.

    It has the dtype of attention: given a bool mask, every layer would convert it.
    """

    def __init__(
        self, prompt_mask: torch.Tensor, window: int | None, layer: KVCacheLayer, next_column: torch.Tensor
    ) -> None:
        assert layer.keys is not None
        self._layer, self._window, self._next_column, cached = layer, window, next_column, layer.prompt_length
        padding = ~prompt_mask[:, prompt_mask.shape[1] - cached :]
        columns, rows, device = layer.keys.shape[2], len(prompt_mask), prompt_mask.device
        self._columns = torch.arange(columns, device=device)
        self._padding = torch.zeros((rows, columns), dtype=layer.keys.dtype, device=device)
        self._padding[:, :cached].masked_fill_(padding, -torch.inf)

    def __call__(self) -> torch.Tensor:
        """Return [rows, 1, 1, columns]: 0 for the columns up to this step, within the window, else minus infinity."""
        columns = self._columns[: self._layer.visible_length]
        hidden = columns > self._next_column
        if self._window is not None:
            hidden |= columns <= self._next_column - self._window
        return self._padding[:, : self._layer.visible_length].masked_fill(hidden, -torch.inf)[:, None, None]


def _next_column(next_columns: dict[Any, torch.Tensor], device: torch.device, prompt_length: int) -> torch.Tensor:
    """Return the column of the next new token, int64 [1], which all layers of this device and length share."""
    key = device, prompt_length
    if key not in next_columns:
        next_columns[key] = torch.full((1,), prompt_length, device=device)
    return next_columns[key]


@contextmanager
def _no_cudnn_attention() -> Iterator[None]:
    """Turn off cuDNN's attention, which plans 23 to 37 ms for every new shape of a batch."""
    enabled = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


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
