"""Skips a test without a GPU, and fails it where GEMMA_CAPTIONER_REQUIRE_CUDA promises one."""

import os

import pytest
import torch


def require_cuda() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("GEMMA_CAPTIONER_REQUIRE_CUDA"):
            pytest.fail("GEMMA_CAPTIONER_REQUIRE_CUDA promises a GPU, and torch sees none")
        pytest.skip("NOT RUN: no CUDA device")
