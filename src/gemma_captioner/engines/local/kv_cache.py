"""The KV cache: an arena of rows, each of which has a length of its own.

It is allocated once for many requests. A request takes a free row, and leaves it to the next one when it has ended.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_COLUMN_MULTIPLE = 8  # CUDA's attention kernel copies a mask of another width in every layer


class KVCacheLayer(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, columns, width].

    A row's token at position p is in column p % columns. A layer with a sliding window has only as many columns as the
    window: a new token replaces the one that the window has left.
    """

    def __init__(self, cache: "KVCache", columns: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cache, self.columns = cache, columns

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros((self._cache.rows, states.shape[1], self.columns, states.shape[3]))
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values of the current forward pass. Return those that its attention reads."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        rows, columns = self._cache.places(self.columns, key_states.device)
        if self._cache.is_prefill:  # the prompt attends to all of itself, with its own mask
            index = columns[:, None, :, None]
            for stored, states in ((self.keys, key_states), (self.values, value_states)):
                kept = states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))
                stored[rows, :, : kept.shape[2]] = kept
            return key_states, value_states
        self.keys[rows, :, columns] = key_states[:, :, 0]
        self.values[rows, :, columns] = value_states[:, :, 0]
        active, visible = len(key_states), self._cache.visible(self.columns)
        return self.keys[:active, :, :visible], self.values[:active, :, :visible]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # called for the prompt only: decode steps pass their own masks

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class KVCache:
    """The cache of all layers, and where each row's next token goes.

    Attributes:
        rows: The number of rows.
        columns: The maximum length of a row.
        lengths: The number of tokens of each row, int64 [rows], on the device.
        is_prefill: Whether the current forward pass reads prompts. Otherwise, it adds a token to the first rows.
        layers: What the model's forward takes as its cache.
    """

    def __init__(self, config: Any, rows: int, columns: int, device: torch.device, *, constant_shapes: bool) -> None:
        """config: the text configuration. constant_shapes: attention reads all columns, filled or not."""
        columns += -columns % _COLUMN_MULTIPLE
        window = config.sliding_window
        if window is not None:
            window = min(columns, window + -window % _COLUMN_MULTIPLE)
        self.rows, self.columns = rows, columns
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.is_prefill = False
        self._constant_shapes = constant_shapes
        self._windows = {"full_attention": (columns, columns), "sliding_attention": (window, config.sliding_window)}
        self._layer_types = list(config.layer_types)
        self._layers = [KVCacheLayer(self, self._windows[kind][0]) for kind in self._layer_types]
        self.layers = Cache(layers=[*self._layers])
        self._longest = 0  # the most tokens of a row, the one of the current step included
        self._places: dict[tuple[int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}

    # Where the tokens of a forward pass go

    def begin_prefill(self, rows: torch.Tensor, prompt_mask: torch.Tensor) -> None:
        """The next forward pass reads prompts [n, columns], padded on the left, into `rows`, int64 [n]."""
        self.is_prefill, self._rows, self._prompt_mask = True, rows, prompt_mask
        self.lengths[rows] = prompt_mask.sum(-1)
        self._places.clear()

    def begin_step(self, active: int, longest: int) -> None:
        """The next forward pass adds a token to each of the first `active` rows, of which `longest` is the longest."""
        self.is_prefill, self._active, self._longest = False, active, longest
        self._places.clear()

    def places(self, columns: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows of the current tokens and, of layers with so many columns:

        in a step, the column of each row's token, int64 [rows]; in a prefill, the column of the prompt that each column
        of the cache takes, int64 [rows, columns]. Layers of one kind on one device share them.
        """
        key = columns, device
        if key not in self._places:
            self._places[key] = tuple(x.to(device) for x in self._new_places(columns))  # type: ignore[assignment]
        return self._places[key]

    def _new_places(self, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_prefill:
            rows = torch.arange(self._active, device=self.lengths.device)
            return rows, self.lengths[: self._active] % columns
        # 10 prompt columns, 6 of them tokens; 4 cache columns -> hold tokens 4, 5, 2, 3, of columns 8, 9, 6, 7
        width = self._prompt_mask.shape[1]
        last = self.lengths[self._rows, None] - 1
        column = torch.arange(min(columns, width), device=last.device)
        position = last - (last - column) % columns
        return self._rows, (position + width - 1 - last).clamp(min=0, max=width - 1)

    def visible(self, columns: int) -> int:
        """Return the number of columns that attention reads in this step, of layers with so many."""
        return columns if self._constant_shapes else min(columns, self._longest)

    def step_masks(self) -> dict[str, torch.Tensor]:
        """Return the masks of this step by kind of layer, [rows, 1, 1, columns]: 0 or minus infinity.

        They have the dtype of attention: given a bool mask, every layer would convert it.
        """
        keys = self._layers[0].keys
        assert keys is not None
        position = self.lengths[: self._active, None]
        masks = {}
        for kind in set(self._layer_types):
            columns, window = self._windows[kind]
            age = (position - torch.arange(self.visible(columns), device=position.device)) % columns
            hidden = age > position.clamp(max=window - 1)
            masks[kind] = torch.zeros_like(age, dtype=keys.dtype).masked_fill_(hidden, -torch.inf)[:, None, None]
        return masks

    def move(self, source: int, target: int) -> None:
        """Copy a row over another one."""
        self.lengths[target] = self.lengths[source]
        for layer in self._layers:
            for stored in (layer.keys, layer.values):
                if stored is not None:
                    stored[target] = stored[source]
