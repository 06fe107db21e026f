"""Nobody is told what is done here: what the libraries beneath would say is turned off before any of them is imported.

Whoever wants it sets these variables before.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")  # huggingface_hub, and a vLLM that we start
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
