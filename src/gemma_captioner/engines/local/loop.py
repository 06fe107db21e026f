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

# How often it is asked whether all rows have ended: on an accelerator each time is a wait for all that is launched.
_STEPS_BETWEEN_LOOKS = {"cpu": 1}
_OTHERWISE = 8


class Kept(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, columns, width]: the prompt's last, then a column a token.

    A layer with a sliding window keeps what a window reaches back from the first new token; nothing is ever moved.
    """

    def __init__(self, window: int | None, new_columns: int, number: torch.Tensor) -> None:
        """number: int64 [1], how many columns were added; the caller counts it up."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._window, self._new_columns, self.number = window, new_columns, number
        self.prompt_columns = 0
        self.shown: int | None = None  # so many columns are looked at; None: all

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        columns = key_states.shape[2]
        kept = columns if self._window is None else min(columns, self._window - 1)
        self.keys, self.values = (
            torch.cat([states[:, :, columns - kept :], states.new_zeros(_room(states, self._new_columns))], dim=2)
            for states in (key_states, value_states)
        )
        self.number = self.number.to(key_states.device)  # another one, where a model is spread over several devices
        self.prompt_columns, self.is_initialized = kept, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:  # the prompt looks at all of itself, through its own mask
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        assert self.keys is not None and self.values is not None
        column = self.number + self.prompt_columns
        self.keys.index_copy_(2, column, key_states)
        self.values.index_copy_(2, column, value_states)
        return self.keys[:, :, : self.shown], self.values[:, :, : self.shown]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # asked of the prompt alone: steps bring their masks

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


def _room(states: torch.Tensor, columns: int) -> tuple[int, int, int, int]:
    rows, heads, _, width = states.shape
    return rows, heads, columns, width


class Steps:
    """The model, a token at a time, after a prompt that it has read. capture_failed: no graph can be had of it."""

    _stream: torch.cuda.Stream | None = None  # that graphs are captured on, one for all

    def __init__(self, model: Any, prompt_mask: torch.Tensor, most_new: int, *, graph: bool) -> None:
        """prompt_mask: bool [rows, columns], False where a row is padded on the left. graph: capture it (CUDA)."""
        self._model = model
        self._mask = prompt_mask
        self._graph_wanted = self._captures = graph
        self._graph: torch.cuda.CUDAGraph | None = None
        self.capture_failed = False
        device = prompt_mask.device
        text = model.config.get_text_config()
        self._number = torch.zeros(1, dtype=torch.long, device=device)
        self._steps = 0  # the same on the host
        self._tokens = torch.zeros((len(prompt_mask), 1), dtype=torch.long, device=device)
        self._positions = prompt_mask.sum(-1, keepdim=True)
        self._new_columns = max(1, most_new - 1)  # the last token is not read again
        self._windows = {"full_attention": None, "sliding_attention": text.sliding_window}
        self._kinds = list(text.layer_types)
        self._layers = [Kept(self._windows[kind], self._new_columns, self._number) for kind in self._kinds]
        self.cache = Cache(layers=[*self._layers])

    def read_prompt(self, input_ids: torch.Tensor, images: Mapping[str, Any]) -> torch.Tensor:
        """Logits of the first new token, [rows, vocabulary]. images: what the family's `prefill` makes of them."""
        output = self._model(
            input_ids=input_ids,
            attention_mask=self._mask.long(),
            position_ids=(self._mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
            **images,
        )
        self._numbers = list({id(n): n for n in (self._number, *(layer.number for layer in self._layers))}.values())
        self._bases = {kind: self._base(self._layers[self._kinds.index(kind)]) for kind in set(self._kinds)}
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: int64 [rows], the latest -> logits of the next, [rows, vocabulary], good until the next call."""
        self._tokens.copy_(tokens[:, None])
        self._steps += 1
        if self._graph is not None:
            self._graph.replay()
            return self._logits
        logits = self.forward()
        if self._captures:
            self._captures = False
            self._capture()
        return logits

    def forward(self) -> torch.Tensor:
        """One step by what lies on the device; nothing in it is asked back by the host."""
        if not self._graph_wanted:
            for layer in self._layers:
                layer.shown = layer.prompt_columns + self._steps
        output = self._model(
            input_ids=self._tokens,
            attention_mask={kind: self._step_mask(kind) for kind in self._bases},
            position_ids=self._positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self._positions += 1
        for number in self._numbers:
            number += 1
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def _capture(self) -> None:  # not run without CUDA
        """By hand instead of `torch.cuda.graph`: that one empties the caches each time, and leaves them and the stream
        as they were in the middle where a capture fails."""
        Steps._stream = Steps._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        here, pool, graph = torch.cuda.current_stream(), torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
        Steps._stream.wait_stream(here)
        try:
            with torch.cuda.stream(Steps._stream):
                graph.capture_begin(pool=pool)
                try:
                    self._logits = self.forward()
                finally:
                    graph.capture_end()
        except RuntimeError:  # some layer's kernel asks the device in its middle: step by step, then
            self.capture_failed = True
            torch.cuda.synchronize()
            for undo in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with suppress(RuntimeError, AttributeError):
                    getattr(torch._C, undo)(self._mask.device.index, pool)
            return
        here.wait_stream(Steps._stream)
        self._graph = graph

    def _base(self, layer: Kept) -> tuple[int, torch.Tensor]:
        """(columns of the prompt, bool [rows, columns]: those that hold no padding)."""
        kept = layer.prompt_columns
        ours = self._mask.new_ones((len(self._mask), self._new_columns))
        return kept, torch.cat([self._mask[:, self._mask.shape[1] - kept :], ours], dim=1)

    def _step_mask(self, kind: str) -> torch.Tensor:
        """bool [rows, 1, 1, columns]: up to the column of this step, as far back as the window."""
        kept, base = self._bases[kind]
        if not self._graph_wanted:
            base = base[:, : kept + self._steps]
        columns = torch.arange(base.shape[1], device=base.device)
        now = self._number + kept
        seen = columns <= now
        if (window := self._windows[kind]) is not None:
            seen = seen & (columns > now - window)
        return (base & seen)[:, None, None]


def answer_tokens(
    steps: Steps,
    first_logits: torch.Tensor,
    *,
    choose: Callable[[torch.Tensor], torch.Tensor],
    ends: torch.Tensor,
    limits: Sequence[int],
    pad: int,
    line_ends: Callable[[torch.Tensor], torch.Tensor] | None,
    stop: threading.Event,
) -> list[list[int]]:
    """Each row's new tokens, its end included, padded with `pad` to the longest.

    choose: logits [rows, vocabulary] -> tokens [rows]. ends: ids that end a row. limits: the most tokens of each row.
    line_ends: tokens [rows] -> which rows end with them besides. stop: give up within one token.
    """
    device = first_logits.device
    between = _STEPS_BETWEEN_LOOKS.get(device.type, _OTHERWISE)
    limit = torch.tensor(limits, device=device)
    answers = torch.full((len(limits), max(limits)), pad, dtype=torch.long, device=device)
    ended = torch.zeros(len(limits), dtype=torch.bool, device=device)
    tokens = choose(first_logits)
    for number in range(max(limits)):
        answers[:, number] = tokens
        ended = ended | torch.isin(tokens, ends) | (limit <= number + 1)
        if line_ends is not None:
            ended = ended | line_ends(tokens)
        if number + 1 == max(limits) or stop.is_set():
            break
        if number % between == between - 1 and bool(ended.all()):
            break
        tokens = torch.where(ended, pad, choose(steps(tokens)))
    return answers[:, : number + 1].tolist()
