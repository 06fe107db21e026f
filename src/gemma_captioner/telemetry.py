"""Disables the telemetry of third-party libraries. Import this before those libraries.

To keep their telemetry, set these environment variables yourself.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")  # huggingface_hub, and a vLLM server that `--serve` starts
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
