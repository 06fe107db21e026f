"""CUDA graphs and the memory of their pools, emulated on the CPU by the rules of PyTorch's allocator.

A capture records operations and runs none that changes a tensor. A replay runs the recorded operations on the recorded
tensors, so it goes wrong where a graph would: if a shape or an address changes from step to step.
"""

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Pool:
    users: int = 0
    bytes: int = 0


class FakeCuda:
    """Stands in for the parts of `torch.cuda` that capture graphs. It may hold `limit` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: float = float("inf")) -> None:
        self.limit = limit
        self.cached = 0.0  # bytes that `empty_cache` frees
        self.refused: str | None = None  # the name of an operation that no graph can hold
        self.pools: dict[int, Pool] = {}
        self.captures = self.replays = 0
        self.is_capturing = False
        pool_ids = itertools.count(1)
        stream = type("Stream", (), {"wait_stream": lambda self, other: None})
        for name, value in {
            "Stream": stream,
            "current_stream": stream,
            "stream": lambda stream: self._nothing(),
            "CUDAGraph": lambda: FakeGraph(self),
            "graph_pool_handle": lambda: next(pool_ids),
            "empty_cache": self.empty_cache,
            "synchronize": lambda: None,
            "current_device": lambda: 0,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda device, pool: None, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda device, pool: self.release(pool), raising=False)

    @contextmanager
    def _nothing(self):
        yield

    @property
    def reserved(self) -> float:
        return self.cached + sum(pool.bytes for pool in self.pools.values())

    def retain(self, pool: int) -> None:
        if pool in self.pools:
            assert self.pools[pool].users > 0, "PyTorch refuses a pool that died with its last graph"
        self.pools.setdefault(pool, Pool()).users += 1

    def release(self, pool: int) -> None:
        self.pools[pool].users -= 1

    def empty_cache(self) -> None:
        assert not self.is_capturing
        self.cached = 0.0
        self.pools = {number: pool for number, pool in self.pools.items() if pool.users}


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda, self._recorded, self._pool, self._is_whole = cuda, [], 0, False

    def capture_begin(self, pool: int) -> None:
        self._pool = pool
        self._cuda.retain(pool)
        self._cuda.captures += 1
        self._cuda.is_capturing = True
        self._recorder = Recorder(self._cuda, pool)
        self._recorder.__enter__()

    def capture_end(self) -> None:
        self._recorder.__exit__(None, None, None)
        self._cuda.is_capturing = False
        if self._recorder.is_invalid:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self._recorded, self._is_whole = self._recorder.recorded, True

    def replay(self) -> None:
        self._cuda.replays += 1
        with torch.no_grad():
            for func, args, kwargs, outputs in self._recorded:
                for old, new in zip(outputs, tree_leaves(func(*args, **kwargs)), strict=True):
                    if old is not None:
                        old.copy_(new)

    def __del__(self) -> None:
        if self._is_whole:
            self._cuda.release(self._pool)


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Recorder(TorchDispatchMode):
    def __init__(self, cuda: FakeCuda, pool: int) -> None:
        super().__init__()
        self._cuda, self._pool, self._bytes = cuda, pool, 0
        self.recorded: list[Any] = []
        self.is_invalid = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ == self._cuda.refused:
            self.is_invalid = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        if func._schema.is_mutable:
            self.recorded.append((func, args, kwargs, [None] * len(func._schema.returns)))
            return kwargs.get("out", args[0])
        outputs = func(*args, **kwargs)
        known = {storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        new = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor) and storage(leaf) not in known]
        if new:
            self._bytes += sum(leaf.nbytes for leaf in new)
            pool = self._cuda.pools[self._pool]
            pool.bytes = max(pool.bytes, self._bytes)  # a dead graph's memory is used again
            if self._cuda.reserved > self._cuda.limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
            self.recorded.append((func, args, kwargs, tree_leaves(outputs)))
        return outputs
