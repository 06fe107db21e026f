"""Captures decode steps as CUDA graphs, all of a session in one memory pool."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from .hardware import is_out_of_memory


class GraphPool:
    """The stream and the memory pool of a session's graphs, of which one exists at a time.

    A pool of its own for each graph would leak: PyTorch returns a dead graph's memory only when another allocation
    fails, and never during a capture. A shared pool dies with its last graph, so a tiny graph keeps it alive.
    """

    def __init__(self, device: torch.device, report: Callable[[str], None]) -> None:
        """report: Receives one line for the user when graphs are given up."""
        self._device, self._report = device, report
        self.enabled = True
        self._stream: torch.cuda.Stream | None = None
        self._anchor: torch.cuda.CUDAGraph | None = None

    def capture(self, step: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor] | None:
        """Return the graph of `step` and the tensor that a replay overwrites, or None if it cannot be captured.

        An OOM affects this batch alone; any other error turns graphs off for the session.
        """
        for _ in range(2):
            try:
                return self._capture(step)
            except RuntimeError as error:
                reason, self.enabled = str(error).strip().split("\n")[0], is_out_of_memory(error)
            torch.cuda.synchronize()
            if not self.enabled:
                break
            torch.cuda.empty_cache()  # PyTorch cannot do this during a capture
        scope = "a batch runs" if self.enabled else "all batches run"
        self._report(f"{scope} without CUDA graphs, which is slower ({reason})")
        return None

    def _capture(self, step: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        if self._anchor is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
            number = torch.zeros(1, device=self._device)
            self._anchor, _ = self._record(lambda: number.add_(1))
        return self._record(step)

    def _record(self, step: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        """Unlike `torch.cuda.graph`, do not empty the caches each time, and clean up a failed capture."""
        here, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        assert self._stream is not None
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool)
            try:
                output = step()
            finally:
                self._end(graph)
        here.wait_stream(self._stream)
        return graph, output

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except RuntimeError:  # CUDA invalidated the capture: PyTorch still counts it as one that uses the pool
            device: Any = torch.cuda.current_device()
            for cleanup in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with suppress(RuntimeError, AttributeError):
                    getattr(torch._C, cleanup)(device, self._pool)
            raise
