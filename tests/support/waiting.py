"""Waits for events instead of seconds."""

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], object], timeout_s: float = 300) -> None:
    """Return once `holds()` is true. Fails after a time that a busy machine does not reach."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not true after {timeout_s:g} s"
        time.sleep(0.02)
